"""Run .tflite files with whichever interpreter this Python has. Stands alone: the standard library, NumPy and that.

First line on stdout: the interpreter's module. Then, for each line on stdin, a JSON list [model.tflite, in.npz,
out.npz], one line on stdout: "ok", or what went wrong. in.npz holds an array [n, ...] for each input in the file's
layout, in order; each example runs on its own, and out.npz gets `output_0`, `output_1`, ... [n, ...].
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")


def find_interpreter():
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    sys.exit("no interpreter of .tflite files is installed")


def run(module, model, inputs, outputs):
    interpreter = module.Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    entries = [detail["index"] for detail in interpreter.get_input_details()]
    exits = [detail["index"] for detail in interpreter.get_output_details()]
    rows = []
    arrays = np.load(inputs)
    for example in zip(*(arrays[name] for name in arrays.files)):
        for entry, array in zip(entries, example):
            interpreter.set_tensor(entry, array[None])
        interpreter.invoke()
        rows.append([interpreter.get_tensor(index) for index in exits])
    np.savez(outputs, **{f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*rows))})


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # interpreters write notes to stdout, which belongs to the answers
    module = find_interpreter()
    print(module.__name__, file=answers, flush=True)
    for line in sys.stdin:
        try:
            run(module, *json.loads(line))
        except (RuntimeError, ValueError) as problem:
            print(" ".join(str(problem).split()) or type(problem).__name__, file=answers, flush=True)
        else:
            print("ok", file=answers, flush=True)


if __name__ == "__main__":
    main()
