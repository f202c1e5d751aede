"""`python -m lab.held MODEL LIBRARY`: prints how many bytes one more session of a model holds. LIBRARY may be empty.

The same model is opened again and again, so that what the runtime itself holds is in the baseline.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

from edgeprune import runtimes

OPENED = 3


def held() -> int:
    """Bytes of anonymous memory of this process."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


def main(model: str, library: str) -> None:
    """Open one session, then the others, and print their share."""
    open_session = runtimes.load("onnxruntime").open_session
    where = Path(model), 1, Path(library) if library else None
    sessions = [open_session(*where)]
    before = held()
    sessions += [open_session(*where) for _ in range(OPENED)]
    sys.stdout.write(f"{(held() - before) // OPENED}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
