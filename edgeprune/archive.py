"""The .zip of a bundle, as `export` writes it, unpacked for as long as this process lives.

zip: one folder, which has the bundle's name, with its files
"""

from __future__ import annotations

import atexit
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune.errors import ExportError
from edgeprune.scratch import Scratch
from edgeprune.store import MEND, is_plain_name, naming, writing

LARGEST = 1 << 32  # bytes unpacked: an .onnx file of more cannot be made
MOST_FILES = 64
CHUNK = 1 << 20  # bytes of a file in memory at once
# (path, inode, size, time of change) -> folder: a bundle that is opened twice is unpacked once
_unpacked: dict[tuple[str, int, int, int], Path] = {}


def is_archive(path: Path) -> bool:
    """True for a file that is named as an archive or is one."""
    # os.path: a folder that may not be looked into is a matter for whoever reads the bundle.
    return os.path.isfile(path) and (path.suffix == ".zip" or zipfile.is_zipfile(path))


def unpack(archive: Path) -> Path:
    """The bundle folder in a temporary folder that goes when this process ends; ExportError for a file that is no
    bundle's archive, or whose files would leave the folder or fill the disk."""
    found = archive.stat()
    key = (os.path.abspath(archive), found.st_ino, found.st_size, found.st_mtime_ns)
    folder = _unpacked.get(key)
    if folder is None or not folder.is_dir():
        folder = _unpacked[key] = _unpack(archive)
    return folder


def _unpack(archive: Path) -> Path:
    scratch = Scratch()
    place = scratch.path
    try:
        with zipfile.ZipFile(archive) as file:
            name = _check(archive, file.infolist())
            needed, free = sum(entry.file_size for entry in file.infolist()), shutil.disk_usage(place).free
            if needed > free:
                raise ExportError(
                    f"{archive} unpacks to {needed:,} bytes, {place.parent} has {free:,} free",
                    "free some space there, or set TMPDIR to another folder",
                )
            (place / name).mkdir()
            for entry in file.infolist():
                if not entry.is_dir():
                    place_of_file = place / entry.filename
                    with naming(place_of_file), file.open(entry) as source, place_of_file.open("wb") as target:
                        shutil.copyfileobj(source, target)
        atexit.register(_remove, scratch, os.getpid())
        return place / name
    # Encrypted entries and unknown methods of compression are RuntimeError and its NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as problem:
        scratch.close()
        raise ExportError(f"{archive} is no archive of a bundle, or damaged: {problem}", MEND["artifact"]) from None
    except BaseException:
        scratch.close()
        raise


def pack(folder: Path, files: Iterable[str], others: Mapping[str, bytes]) -> None:
    """Write the archive of a bundle's folder beside it, the same bytes for the same files; others: what it holds that
    is not in the folder yet."""
    with writing(folder.with_name(f"{folder.name}.zip")) as whole, zipfile.ZipFile(whole, "w") as bundle:
        for name in sorted((*files, *others)):
            entry = zipfile.ZipInfo(f"{folder.name}/{name}")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            if name in others:
                bundle.writestr(entry, others[name])
                continue
            entry.file_size = (folder / name).stat().st_size
            with bundle.open(entry, "w") as packed, (folder / name).open("rb") as file:
                shutil.copyfileobj(file, packed, CHUNK)


def _remove(scratch: Scratch, maker: int) -> None:
    if os.getpid() == maker:  # a fork ends without its parent's folder
        scratch.close()


def _check(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> str:
    """The name of the one folder that all files of the archive lie in."""
    seen: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        folder, _, name = entry.filename.rstrip("/").partition("/")
        plain = is_plain_name(folder) and (is_plain_name(name) or (entry.is_dir() and not name))
        if not plain or entry.filename in seen:
            raise ExportError(
                f"{archive} is no archive of a bundle: expected one folder of files, got {ascii(entry.filename[:80])}",
                MEND["artifact"],
            )
        seen.add(entry.filename)
        folders.add(folder)
    if len(folders) != 1 or len(seen) > MOST_FILES:
        raise ExportError(
            f"{archive} is no archive of a bundle: expected one folder of at most {MOST_FILES} files, got "
            f"{len(folders)} folders and {len(seen)} files",
            MEND["artifact"],
        )
    if sum(entry.file_size for entry in entries) > LARGEST:
        raise ExportError(f"{archive} unpacks to more than {LARGEST:,} bytes", MEND["artifact"])
    return folders.pop()


def sizes_of(model: bytes, library: bytes = b"") -> dict[str, Any]:
    """The sizes in a manifest of a model file and the library that it needs, if any."""
    model_zip, library_zip = (len(zlib.compress(data)) if data else 0 for data in (model, library))
    return {
        "size_bytes": len(model) + len(library),
        "size_zip_bytes": model_zip + library_zip,
        "library_bytes": len(library),
        "library_zip_bytes": library_zip,
    }
