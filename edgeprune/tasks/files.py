"""Finding, downloading and reading the files of the built-in data sets.

A data set is looked for in the folder given, then in $EDGEPRUNE_DATA, then in ~/.cache/edgeprune/data; in each of them
first in a subfolder of its standard name, then in the folder itself. Each file may lie there plain or as .gz. Local
files are checked by format (magic number, sizes, value ranges), downloads by SHA-256.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import queue
import tarfile
import threading
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune import store
from edgeprune.errors import TaskError

ANSWER_SECONDS = 6.0
CIFAR_RECORDS = 10_000
CIFAR_RECORD_BYTES = 3073
STANDARD_FOLDERS = ("mnist", "fashion-mnist", "cifar-10-batches-bin", "credit-default")
_IDX_UBYTE = 0x08
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """One file on the network, at any of `urls`: the body is the file named in `files`, or, if `files` names several,
    a tar archive that has them as members, whatever their folder in it. sha256 is of the body."""

    urls: tuple[str, ...]
    sha256: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """The files of a data set. title: for messages. folder: its standard subfolder."""

    title: str
    folder: str
    downloads: tuple[Download, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files, without .gz."""
        return tuple(name.removesuffix(".gz") for download in self.downloads for name in download.files)


def locate(data_set: DataSet, data_dir: Optional[Path]) -> dict[str, Path]:
    """File name (without .gz) -> where it lies, downloading what is missing; TaskError that says which file to put
    where if that fails."""
    places = search_places(data_set, data_dir)
    folder = next((place for place in places if _present(data_set, place)), places[0])
    present = _present(data_set, folder)
    missing = [download for download in data_set.downloads if not present.keys() >= set(_plain(download.files))]
    if missing:
        if present and not _official(data_set, present):
            raise TaskError(
                f"{data_set.title} in {folder} is incomplete: {_listed(data_set, present)} missing",
                "put what is missing there, or delete the others to have all of them downloaded",
            )
        try:
            _download_all(missing, folder)
        except (OSError, HTTPException, tarfile.TarError) as problem:
            raise TaskError(
                f"{data_set.title} not found in {', '.join(map(str, _roots(data_dir)))}, and not downloaded: {problem}",
                f"put {_listed(data_set, _present(data_set, folder))} into {folder}, or name the folder that has them "
                "with --data-dir or $EDGEPRUNE_DATA",
            ) from None
    return _present(data_set, folder)


def search_places(data_set: DataSet, data_dir: Optional[Path]) -> list[Path]:
    """The folders a data set is looked for in, in order; a download goes to the first."""
    places: list[Path] = []
    for root in _roots(data_dir):
        # MNIST and Fashion-MNIST share their file names, so another data set's own folder does not count.
        foreign = root.name in STANDARD_FOLDERS and root.name != data_set.folder
        places += [root / data_set.folder] if foreign else [root / data_set.folder, root]
    return places


def _roots(data_dir: Optional[Path]) -> list[Path]:
    given = [data_dir, os.environ.get("EDGEPRUNE_DATA"), Path.home() / ".cache" / "edgeprune" / "data"]
    return list(dict.fromkeys(Path(folder).expanduser() for folder in given if folder))


def _present(data_set: DataSet, folder: Path) -> dict[str, Path]:
    found = {}
    for name in data_set.files:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                found[name] = path
                break
    return found


def _plain(names: tuple[str, ...]) -> list[str]:
    return [name.removesuffix(".gz") for name in names]


def _listed(data_set: DataSet, present: Mapping[str, Path]) -> str:
    names = [name for download in data_set.downloads for name in download.files]
    return ", ".join(name for name in names if name.removesuffix(".gz") not in present)


def _official(data_set: DataSet, present: Mapping[str, Path]) -> bool:
    """True if the files present are byte for byte what a download would give, so that the others fit to them."""
    for download in data_set.downloads:
        for name in _plain(download.files):
            if name in present and (len(download.files) > 1 or store.sha256_file(present[name]) != download.sha256):
                return False
    return True


def _download_all(missing: list[Download], folder: Path) -> None:
    for download in missing:
        for name, content in _unpacked(download, fetch(download)).items():
            store.write_bytes(folder / name, content)


def _unpacked(download: Download, body: bytes) -> dict[str, bytes]:
    if len(download.files) == 1:
        return {download.files[0]: body}
    members = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if name in download.files else None
            if content is not None:
                members[name] = content.read()
    return members


def fetch(download: Download) -> bytes:
    """The body of a download from the first of its addresses that gives it; OSError or HTTPException if none does."""
    problem: Exception = OSError("no address")
    for url in download.urls:
        _log.info("downloading %s", url)
        try:
            with _answer(url) as response:
                body: bytes = response.read()
        except (OSError, HTTPException) as failure:
            problem = failure
            continue
        if store.sha256_bytes(body) == download.sha256:
            return body
        problem = OSError(
            f"{url} gave {len(body)} bytes with SHA-256 {store.sha256_bytes(body)[:12]}..., expected "
            f"{download.sha256[:12]}..."
        )
    raise problem


def _answer(url: str) -> Any:
    """The open response. A resolver without a network may hang far longer than a socket's timeout, so the wait for the
    first answer is bounded from outside."""
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=ANSWER_SECONDS))
        except (OSError, HTTPException) as problem:
            answers.put(problem)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer from {url} within {ANSWER_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it ends in .gz; TaskError naming the file if it is damaged."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise damaged(path, f"not a complete .gz file ({problem})") from None
    except OSError as problem:
        raise TaskError(f"cannot read data file {path}: {problem.strerror or problem}") from None


def read_idx(path: Path, shape: tuple[Optional[int], ...]) -> NDArray[np.uint8]:
    """An array of unsigned bytes in the IDX format of the MNIST files: two zero bytes, the type 0x08, the number of
    dimensions, each dimension as a big-endian 32-bit number, then the data. `shape`: what is expected, None: any."""
    data = read_bytes(path)
    if len(data) < 4 or data[0] or data[1] or data[2] != _IDX_UBYTE or data[3] != len(shape):
        raise damaged(
            path,
            f"not an IDX file of unsigned bytes with {len(shape)} dimensions: begins with "
            f"0x{data[:4].hex()}, expected 0x000008{len(shape):02x}",
        )
    start = 4 + 4 * len(shape)
    got = tuple(int(n) for n in np.frombuffer(data[4:start], dtype=">u4")) if len(data) >= start else ()
    if len(got) != len(shape) or any(want is not None and n != want for n, want in zip(got, shape)):
        wanted = " x ".join("n" if want is None else str(want) for want in shape)
        raise damaged(path, f"holds {' x '.join(map(str, got)) or 'no'} values, expected {wanted}")
    if len(data) - start != int(np.prod(got)):
        raise damaged(path, f"{len(data) - start} bytes of data, expected {int(np.prod(got))}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(got)


def read_labels(path: Path, count: int, classes: int) -> NDArray[np.uint8]:
    """`count` class numbers below `classes` from an IDX file."""
    labels = read_idx(path, (count,))
    if int(labels.max(initial=0)) >= classes:
        raise damaged(path, f"holds the label {int(labels.max())}, expected 0..{classes - 1}")
    return labels


def read_cifar10(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [10000, 3, 32, 32] and labels [10000] of one file of CIFAR-10's binary version: records of one label byte
    and 1024 red, 1024 green and 1024 blue bytes."""
    data = read_bytes(path)
    if len(data) != CIFAR_RECORDS * CIFAR_RECORD_BYTES:
        raise damaged(path, f"{len(data)} bytes, expected {CIFAR_RECORDS * CIFAR_RECORD_BYTES}")
    records = np.frombuffer(data, dtype=np.uint8).reshape(CIFAR_RECORDS, CIFAR_RECORD_BYTES)
    if int(records[:, 0].max()) > 9:
        raise damaged(path, f"holds the label {int(records[:, 0].max())}, expected 0..9")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def read_csv(path: Path, columns: int, rows: Optional[int] = None) -> tuple[list[str], NDArray[np.float64]]:
    """Header and numbers [rows, columns] of a comma-separated file with one header line."""
    try:
        header, _, body = read_bytes(path).decode("utf-8-sig").partition("\n")
        values = np.loadtxt(io.StringIO(body), delimiter=",", dtype=np.float64, quotechar='"', ndmin=2)
    except UnicodeDecodeError:
        raise damaged(path, "not a text file") from None
    except ValueError as problem:
        raise damaged(path, f"not a table of numbers ({str(problem).rstrip('.')})") from None
    names = [name.strip().strip('"') for name in header.split(",")]
    if len(names) != columns or values.shape[1] != columns:
        raise damaged(path, f"{len(names)} names and {values.shape[1]} columns, expected {columns}")
    if rows is not None and len(values) != rows:
        raise damaged(path, f"{len(values)} rows, expected {rows}")
    if not np.isfinite(values).all():
        raise damaged(path, f"row {int(np.argwhere(~np.isfinite(values))[0, 0]) + 1} holds a value that is no number")
    return names, values


def damaged(path: Path, what: str) -> TaskError:
    """The error about a data file with wrong content."""
    return TaskError(f"data file {path} is damaged: {what}", "replace it, or delete it to have it downloaded again")
