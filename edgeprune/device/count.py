"""A session on an emulated machine: job.json and inputs.npz in, outputs.npz and versions.json out, and marks around the
second inference."""

from __future__ import annotations

import ctypes
import gc
import json
import platform
from pathlib import Path

from .runtimes import ON_DEVICE, Ask, runtime_of

MARK, BEGIN, END = 0xED9E, 1, 2  # instructions.c


def count() -> None:
    """Run a model once to get warm, once between the marks."""
    import numpy as np

    job = json.loads(Path("job.json").read_text())
    runtime = runtime_of(job["runtime"])
    with np.load("inputs.npz") as file:
        arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
    found = runtime.find(ON_DEVICE)
    infer = runtime(found.module, Ask(job["model"], library=job["library"])).bound(*arrays)
    mark = ctypes.CDLL(None).syscall
    # The first call allocates. Later ones differ by a hundred-thousandth, the same in every run.
    infer()
    gc.collect()
    gc.disable()
    mark(MARK, BEGIN)
    outputs = infer()
    mark(MARK, END)
    np.savez("outputs.npz", *outputs)
    versions = {"runtime": {"name": found.name, "version": found.version}, "numpy": np.__version__}
    Path("versions.json").write_text(json.dumps({**versions, "python": platform.python_version()}))
