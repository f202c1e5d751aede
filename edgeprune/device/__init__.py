"""All that runs on a device, in one folder that travels there as one file (see `parcel`).

It needs Python 3.9, NumPy and the runtime that is asked for, and nothing else; it opens no port and needs no root. On
the host `edgeprune.load`, `export`, `bench` and `doctor` use the same modules. Imports inside the folder are relative,
and NumPy and the runtimes are imported inside functions: what they take is measured.
"""

from __future__ import annotations

import time

FIRST_LINE_NS = time.monotonic_ns()  # an agent loads this file first


class Failure(Exception):
    """It cannot go on: one line that says why, and the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
