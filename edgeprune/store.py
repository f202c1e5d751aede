"""Where things lie on disk and how they get there: paths, atomic writes, hashes, seals and schema versions.

A folder of output (`edgeprune-out` unless `--out` says otherwise) holds

    tickets/<task>-<id>/ticket.json + *.safetensors     artifacts/<name>/manifest.json + files (and <name>.zip)
    measurements/<name>.json                            reports/<name>.html

A file exists only when it is complete: it is written under a temporary name, flushed and renamed into place.
JSON files carry `schema_version` and `seal`, the SHA-256 of the canonical JSON of everything else in them, so that
a truncated, edited or newer file is recognised.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, Union

from edgeprune import typed
from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    from numpy.typing import NDArray

StrPath = Union[str, "os.PathLike[str]"]
SCHEMA_VERSION = 1
LARGEST_JSON, LARGEST_TENSORS = 1 << 28, 1 << 36  # bytes
T = TypeVar("T")
DEFAULT_OUT = Path("edgeprune-out")
MAIN_FILE = {"ticket": "ticket.json", "artifact": "manifest.json", "measurement": "", "report": ""}
NEXT_STEP = {
    "ticket": "make one with: edgeprune find digits",
    "artifact": "make one with: edgeprune export --target rpi4",
    "measurement": "make one with: edgeprune bench --target local",
    "report": "make one with: edgeprune report",
}
UNFINISHED = {  # what to do about one that was begun
    "ticket": "give the same edgeprune find command once more: it continues from there",
    "artifact": "give the same edgeprune export command once more",
}
MEND = {  # what to do about one that is there, but damaged
    "ticket": "remove its folder and run the same edgeprune find again",
    "artifact": "copy it again, or build it again with: edgeprune export",
    "measurement": "remove the file and bench again",
}


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True).encode()


def sha256_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as `writing` does."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it is either absent (or as it was) or complete, whenever the process is killed; what another
    one that was killed left beside it is removed. An OSError names the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with contextlib.suppress(OSError):  # some networks' disks have no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException as problem:
        temporary.unlink(missing_ok=True)
        if isinstance(problem, OSError):  # a write that fails does not know what it writes to
            raise OSError(problem.errno, problem.strerror, str(path)) from None
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError inside that names no file gets this one: a write that fails does not know what it writes to."""
    try:
        yield
    except OSError as problem:
        if problem.filename is not None or problem.errno is None:
            raise
        raise OSError(problem.errno, problem.strerror, str(path)) from None


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of `write_bytes` whose process is gone: nobody locks them, and none on this machine
    has its number (another machine's, which shares the disk, locks its own)."""
    for temporary in folder.glob(".*.tmp"):
        number = temporary.name.split(".")[-2]
        if number.isdigit() and not _runs(int(number)):
            with contextlib.suppress(OSError), temporary.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()


def _runs(pid: int) -> bool:
    """True if this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """`content` as JSON text with `schema_version` and `seal`, the SHA-256 of its canonical JSON, added."""
    body = {**content, "schema_version": SCHEMA_VERSION}
    body["seal"] = sha256_bytes(canonical_json(body))
    return (json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` sealed."""
    write_bytes(path, sealed_json(content))


def is_plain_name(name: str) -> bool:
    """True for a name of a file in a folder: no path, nothing that leads elsewhere, nothing hidden."""
    return 0 < len(name) < 256 and not name.startswith(".") and not set(name) & set("/\\\0") and name.isprintable()


def read_file(path: Path, kind: str, error: type[EdgepruneError], again: str = "", limit: int = LARGEST_JSON) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; raise `error` for anything else: a folder, a pipe that
    never ends, a link in a circle, a file that may not be read. again: the next step for one that is damaged, else the
    kind's own."""
    again = again or MEND.get(kind, "write it again")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise error(f"{kind} {path} is {'a folder' if path.is_dir() else 'no regular file'}", again)
        if found.st_size > limit:
            raise error(f"{kind} {path} is too large: {found.st_size:,} bytes, expected at most {limit:,}", again)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        step = f"check the path, or {NEXT_STEP[kind]}" if kind in NEXT_STEP else again
        raise error(f"no {kind} at {path}: the file does not exist", step) from None
    except PermissionError:
        raise error(f"cannot read {kind} {path}: permission denied", "let this user read it") from None
    except (OSError, ValueError) as problem:  # ValueError: no path can hold a NUL
        raise error(f"cannot read {kind} {path}: {getattr(problem, 'strerror', None) or problem}", again) from None


def read_json(path: Path, kind: str, error: type[EdgepruneError], again: str = "") -> dict[str, Any]:
    """Read a sealed JSON file; raise `error` if it is missing, truncated, edited or from a newer schema. The types of
    what it holds are `decoded`'s to check. again: as for `read_file`."""
    again = again or MEND.get(kind, "write it again")
    try:
        body = typed.parse_json(read_file(path, kind, error, again))
        if not isinstance(body, dict) or "schema_version" not in body:
            raise error(f"{path} is not a {kind}: expected a JSON object with schema_version", again)
        version = typed.decode(int, body["schema_version"], "schema_version")
    except typed.WrongContent as problem:
        raise error(f"{kind} {path} is damaged: {problem}", again) from None
    if not 1 <= version <= SCHEMA_VERSION:
        raise error(
            f"{kind} {path} has schema version {version}; this edgeprune reads up to {SCHEMA_VERSION}",
            "update with: pip install --upgrade edgeprune" if version > SCHEMA_VERSION else again,
        )
    seal = body.pop("seal", None)
    if seal != sha256_bytes(canonical_json(body)):
        raise error(f"{kind} {path} was edited or damaged: its content does not match its seal", again)
    return body


def decoded(
    cls: type[T], body: Mapping[str, Any], file: Path, kind: str, error: type[EdgepruneError], **given: Any
) -> T:
    """What `read_json` gave for `file`, as a dataclass; raise `error` with the name of the field that is wrong. given:
    fields that do not come from the file."""
    fields = {name: value for name, value in body.items() if name != "schema_version"}
    try:
        return typed.decode(cls, fields, given=given)
    except typed.WrongContent as problem:
        raise error(f"{kind} {file}: {problem}", MEND.get(kind, "write it again")) from None


def joined(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Groups of tensors as they lie in one file: {"weights": {"0.bias": ...}} -> {"weights/0.bias": ...}."""
    return {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}


def parted(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The other way: group -> name -> tensor; what has no group is in that of the name ""."""
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        group, slash, name = key.partition("/")
        groups.setdefault(group if slash else "", {})[name if slash else key] = tensor
    return groups


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays as safetensors and give the file's SHA-256. Equal arrays give equal bytes."""
    import numpy as np
    from safetensors.numpy import save

    # Not ascontiguousarray, which makes a vector of a scalar.
    data = save({name: np.asarray(array, order="C") for name, array in sorted(tensors.items())})
    write_bytes(path, data)
    return sha256_bytes(data)


def read_tensors(
    path: Path, kind: str, error: type[EdgepruneError], sha256: str | None = None, again: str = ""
) -> dict[str, Any]:
    """Read a safetensors file; raise `error` if it is missing, damaged or its SHA-256 is not `sha256`. again: as for
    `read_file`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    again = again or MEND.get(kind, "write it again")
    data = read_file(path, f"{kind} file", error, again, LARGEST_TENSORS)
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise error(f"{kind} file {path} was edited or damaged: SHA-256 differs from the one recorded", again)
    try:
        header = typed.parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        found = dict(load(data))
    except (SafetensorError, typed.WrongContent) as problem:
        raise error(f"{kind} file {path} is damaged: {problem}", again) from None
    except KeyError as problem:  # a type that NumPy lacks
        raise error(f"{kind} file {path} is damaged: NumPy has no type {problem}", again) from None
    if found.keys() != header.keys() - {"__metadata__"}:
        raise error(f"{kind} file {path} is damaged: its header names other tensors than it holds", again)
    return found


def newest(out: Path, kind: str, error: type[EdgepruneError]) -> Path:
    """The most recently completed ticket, artifact, measurement or report in an output folder. Where there is none but
    one that was begun, the error names it."""
    main = MAIN_FILE[kind]
    folder = out / f"{kind}s"
    found = folder.glob(f"*/{main}") if main else (p for p in folder.glob("*.*") if not p.name.startswith("."))
    files = sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.as_posix()))
    if not files:
        begun = sorted(path.name for path in folder.glob("[!.]*") if main and path.is_dir())
        if begun:
            raise error(f"no {kind} in {folder} is complete: {begun[-1]} was broken off", UNFINISHED[kind])
        raise error(f"no {kind} in {folder}", NEXT_STEP[kind])
    return files[-1].parent if main else files[-1]


@contextlib.contextmanager
def lock(folder: Path, error: type[EdgepruneError]) -> Iterator[None]:
    """Hold a folder for one process, through a file beside it. The kernel drops the lock when the process ends,
    however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder.with_name(f".{folder.name}.lock")
    with place.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        except BlockingIOError:
            file.seek(0)
            owner = file.read().decode(errors="replace").strip() or "unknown"
            raise error(
                f"{folder} is being written by another process (pid {owner})", "wait for it or stop it"
            ) from None
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, str(place)) from None
        yield
