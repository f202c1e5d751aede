"""Another sparse runtime, in a Python of its own, as a side that can be timed: run by `lab peers`, not by hand.

    python -m lab.peer_session ENGINE MODEL.onnx INPUT.npy OUTPUT.npy

Opens the model on one thread, writes its output for the input, prints "ready", and answers each line of standard input,
the JSON list of what `lab.block.take` needs to run a block, with the JSON of what it gives. Nothing of edgeprune and
nothing but NumPy need be installed there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable

# DeepSparse reports its use to a server unless told not to; read when it is imported.
os.environ["NM_DISABLE_ANALYTICS"] = "1"

import numpy as np

from lab.block import take

Call = Callable[[Any], Any]


def deepsparse(model: str, example: Any) -> Call:
    """DeepSparse's engine; it wants a list of arrays."""
    from deepsparse import Engine, Scheduler

    engine = Engine(
        model, batch_size=1, num_cores=1, scheduler=Scheduler.single_stream, input_shapes=[list(example.shape)]
    )
    return lambda array: engine.run([array])[0]


def mnn(model: str, example: Any) -> Call:
    """MNN's session of a model converted with the search for sparse speed-up, for this one example."""
    # Not the mnnconvert command: that installs packages and reports to a server. This is what it calls.
    import _tools
    import MNN

    converted = str(Path(model).with_suffix(".mnn"))
    if not Path(converted).is_file():
        arguments = ["--modelFile", model, "--MNNModel", converted, "--batch", "1", "--detectSparseSpeedUp"]
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--bizCode", "MNN", *arguments])
    interpreter = MNN.Interpreter(converted)
    session = interpreter.createSession({"numThread": 1, "backend": "CPU"})
    entry, exit_ = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    interpreter.resizeTensor(entry, tuple(example.shape))
    interpreter.resizeSession(session)

    # The engine's own layout has channels in fours; the change to and from it is part of a call.
    plain = MNN.Tensor(tuple(example.shape), MNN.Halide_Type_Float, example, MNN.Tensor_DimensionType_Caffe)

    def call(array: Any) -> Any:
        entry.copyFrom(plain)
        interpreter.runSession(session)
        # A copy: the view goes with its tensor.
        return np.array(exit_.getNumpyData())

    return call


ENGINES = {"deepsparse": deepsparse, "mnn": mnn}


def main(engine: str, model: str, entry: str, exit_: str) -> None:
    """Open, answer once, then time on demand."""
    # What the engines print on opening must not reach the driver.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    example = np.load(entry)
    call = ENGINES[engine](model, example)
    np.save(exit_, np.asarray(call(example)).reshape(1, -1))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(take(lambda: call(example), *json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
