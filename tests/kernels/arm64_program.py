"""Runs inside the emulated machine: the model of cases on each level, each level in a fork of its own, since the
library chooses once. Writes LEVEL.npz with the outputs, or LEVEL.txt with the error. numpy and onnxruntime only."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime

job = json.loads(Path("job.json").read_text())


def run(level: str) -> None:
    if level != "best":
        os.environ["EDGEPRUNE_KERNELS_LEVEL"] = level
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    try:
        options.register_custom_ops_library(job["library"])
        session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # noqa: BLE001 - onnxruntime's own classes
        Path(f"{level}.txt").write_text(str(problem))
        return
    names = [each.name for each in session.get_outputs()]
    inputs = dict(np.load("inputs.npz"))
    # The first four runs count the runtime's threads; from then on the work is shared out among so many.
    for _ in range(5):
        outputs = session.run(names, inputs)
    np.savez(f"{level}.npz", **dict(zip(names, outputs)))


for level in job["levels"]:
    pid = os.fork()
    if pid == 0:
        run(level)
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        sys.exit(f"level {level} ended by signal {os.WTERMSIG(status)}")
