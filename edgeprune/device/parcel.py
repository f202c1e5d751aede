"""This folder as the one file that travels: a zip archive that Python runs [PEP 441, Python's zipapp]."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

NAME = "agent.pyz"  # on the device
MAIN = "import device.__main__\ndevice.__main__.main()\n"
WHEN = (1980, 1, 1, 0, 0, 0)  # the format's earliest date


def parcel() -> bytes:
    """The archive: the same bytes for the same sources, on every system and Python. Nothing is compressed, so that a
    device needs no zlib."""
    sources = {f"device/{path.name}": path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {"__main__.py": MAIN.encode(), **sources}.items():
            entry = zipfile.ZipInfo(name, WHEN)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, wherever it is made
            archive.writestr(entry, data)
    return file.getvalue()
