"""Times of layers in ONNX Runtime in relation to one dense convolution, timed along with everything: a machine that is
shared (or grows hot) has slow seconds, in which all is slower by much the same factor."""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np
import onnx

from edgeprune import kernels
from edgeprune.export.sparse.clock import FAST, Clock, runner
from lab import chains

LONG, SHORT = 5, 1
SECONDS = 0.04
RUNS = 60  # that are profiled
Make = Callable[[int], onnx.ModelProto]  # a chain of so many layers


class Stopwatch:
    """This machine with its library, one thread, as `export --measure` times it. units_ns: what the convolution took,
    once a measurement."""

    def __init__(self) -> None:
        self.clock = Clock(kernels.library(platform.machine()), Path())
        self.unit = chains.chain((64, 32, 32), [chains.weights((64, 64, 3, 3), "unstructured", 0.9, 0)])
        self.units_ns: list[float] = []

    def margin(self, make: Make) -> float:
        """One more layer in a chain, in times of the unit: neither what enters the chain nor what leaves it counts."""
        long, short, unit = self.clock.networks([make(LONG), make(SHORT), self.unit], SECONDS)
        self.units_ns.append(unit)
        return (long - short) / (LONG - SHORT) / unit

    def profiled(self, model: onnx.ModelProto, *operators: str) -> float:
        """What all nodes of some operators take, by the runtime's own profile: for what no chain can be made of."""
        with tempfile.TemporaryDirectory() as folder:
            session = self.clock.session(model.SerializeToString(), Path(folder) / "profile")
            run = runner(session)
            for _ in range(RUNS):
                run()
            events = json.loads(session.end_profile())
        (unit,) = self.clock.networks([self.unit], SECONDS)
        spent = [
            [event["dur"] for event in events if event.get("args", {}).get("op_name") == operator]
            for operator in operators
        ]
        return 1000 * sum(float(np.quantile(times, FAST)) for times in spent) / unit
