"""Runs inside the emulated machine: a session as job.json says, and marks around its second inference.

Python 3.9, numpy and onnxruntime only; nothing of edgeprune can be imported there.
"""

from __future__ import annotations

import ctypes
import gc
import json
from pathlib import Path

import numpy as np
import onnxruntime

MARK, BEGIN, END = 0xED9E, 1, 2  # instructions.c


def main() -> None:
    """Read job.json and inputs.npz in the working folder, run."""
    job = json.loads(Path("job.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if job["library"]:
        options.register_custom_ops_library(job["library"])
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    arrays = np.load("inputs.npz")
    inputs = {name: arrays[f"arr_{each}"] for each, name in enumerate(job["inputs"])}
    mark = ctypes.CDLL(None).syscall
    # The first call allocates. Later ones differ by a hundred-thousandth, the same in every run.
    session.run(None, inputs)
    gc.collect()
    gc.disable()
    mark(MARK, BEGIN)
    session.run(None, inputs)
    mark(MARK, END)


if __name__ == "__main__":
    main()
