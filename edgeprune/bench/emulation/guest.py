"""Runs inside the emulated machine: a session as job.json says, and marks around its second inference.

Python 3.9, numpy and the job's runtime only; nothing of edgeprune can be imported there.
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable

import numpy as np

MARK, BEGIN, END = 0xED9E, 1, 2  # instructions.c
Infer = Callable[[], "list[Any]"]


def onnxruntime(job: dict[str, Any], arrays: list[Any]) -> Infer:
    """An inference of an .onnx file."""
    module: Any = import_module("onnxruntime")
    options = module.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if job["library"]:
        options.register_custom_ops_library(job["library"])
    session = module.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    names = job["inputs"] or [session.get_inputs()[0].name]
    inputs = dict(zip(names, arrays))
    return lambda: list(session.run(None, inputs))


def litert(job: dict[str, Any], arrays: list[Any]) -> Infer:
    """An inference of a .tflite file with one input, with the interpreter's default delegate."""
    module: Any = import_module("ai_edge_litert.interpreter")
    interpreter = module.Interpreter(model_path=job["model"], num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    exits = [detail["index"] for detail in interpreter.get_output_details()]

    def infer() -> list[Any]:
        interpreter.set_tensor(entry, arrays[0])
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in exits]

    return infer


RUNTIMES = {"onnxruntime": (onnxruntime, "onnxruntime"), "litert": (litert, "ai-edge-litert")}


def main() -> None:
    """Read job.json and inputs.npz in the working folder, run, write outputs.npz and versions.json."""
    job = json.loads(Path("job.json").read_text())
    load, package = RUNTIMES[job["runtime"]]
    with np.load("inputs.npz") as file:
        arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
    infer = load(job, arrays)
    mark = ctypes.CDLL(None).syscall
    # The first call allocates. Later ones differ by a hundred-thousandth, the same in every run.
    infer()
    gc.collect()
    gc.disable()
    mark(MARK, BEGIN)
    outputs = infer()
    mark(MARK, END)
    np.savez("outputs.npz", *outputs)
    versions = {"runtime": {"name": package, "version": version(package)}, "numpy": np.__version__}
    Path("versions.json").write_text(json.dumps({**versions, "python": platform.python_version()}))


if __name__ == "__main__":
    main()
