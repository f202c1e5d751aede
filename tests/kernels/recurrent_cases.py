"""Cases of recurrent layers: every cell, direction, state and form of weights, with any of the outputs left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeprune.kernels import DOMAIN, packing

Array = NDArray[Any]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TOLERANCE = 1e-5  # of states between -1 and 1, or not much larger


def padded(weight: Array, gates: int) -> Array:
    """[directions * gates * units, columns], each gate's rows rounded up to four by zeros."""
    directions, rows, columns = weight.shape
    parts = weight.reshape(directions * gates, rows // gates, columns)
    return np.pad(parts, ((0, 0), (0, -parts.shape[1] % 4), (0, 0))).reshape(-1, columns)


def drawn_weight(random: np.random.Generator, shape: tuple[int, ...], kept: tuple[str, float]) -> Array:
    """[directions, gates * units, columns] with a share of a pattern's blocks left; kept: pattern and share."""
    rows, columns = packing.BLOCKS[kept[0]]
    alive = random.random((shape[0], -(-shape[1] // rows), -(-shape[2] // columns))) < kept[1]
    mask = np.repeat(np.repeat(alive, rows, 1), columns, 2)[:, : shape[1], : shape[2]]
    scale = 1 / np.sqrt(max(1.0, shape[2] * kept[1]))
    return (random.normal(size=shape) * mask * scale).astype(np.float32)


def sizes_of(random: np.random.Generator) -> dict[str, int]:
    """Any small layer, or one whose gates are whole vectors on every level."""
    units = int(random.choice([16, 32, 48])) if random.random() < 0.3 else int(random.integers(1, 72))
    return {
        "steps": int(random.integers(1, 9)), "batch": int(random.integers(1, 4)),
        "inputs": int(random.integers(1, 80)), "units": units, "directions": int(random.integers(1, 3)),
    }  # fmt: skip


def recurrent(cases: Any, kind: str, pattern: str, density: float) -> None:
    """One layer of a kind, LSTM, GRU or RNN."""
    random, gates = cases.random, GATES[kind]
    size = sizes_of(random)
    directions, units, inputs = size["directions"], size["units"], size["inputs"]
    parts = [
        drawn_weight(random, (directions, gates * units, columns), (pattern, density)) for columns in (inputs, units)
    ]
    attributes: dict[str, int] = {"hidden_size": units}
    if random.random() < 0.5:
        attributes["reverse"] = int(random.integers(2))
    if kind != "LSTM" and random.random() < 0.8:
        attributes["linear_before_reset" if kind == "GRU" else "relu"] = int(random.integers(2))
    if attributes.get("relu"):
        parts[1] *= np.float32(0.5)  # or states grow from step to step
    x = random.normal(size=(size["steps"], size["batch"], inputs)).astype(np.float32)
    names = [cases.input(x)]
    names += [cases.weight(np.frombuffer(packing.pack(padded(part, gates), pattern), np.uint8)) for part in parts]
    names.append(cases.weight(random.normal(size=(directions, 2 * gates * units)).astype(np.float32)))
    outputs = 3 if kind == "LSTM" else 2
    for _ in range(int(random.integers(outputs))):
        names.append(cases.input(random.uniform(-1, 1, (directions, size["batch"], units)).astype(np.float32)))
    stem = f"Sparse{kind}_{len(cases.nodes)}"
    made = [f"{stem}_{index}" if random.random() < 0.8 else "" for index in range(outputs)]
    made = made if any(made) else [stem]
    cases.nodes.append(helper.make_node(f"Sparse{kind}", names, made, name=stem, domain=DOMAIN, **attributes))
    for name in filter(None, made):
        cases.output(name, TensorProto.FLOAT, TOLERANCE)
