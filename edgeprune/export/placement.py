"""Where a weight lies in an .onnx file, said by who put it there, and how it is read back from the file's own bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.export.graph import Array, Shape
from edgeprune.export.scales import Grid
from edgeprune.kernels.packing import unpack

# How: as it is; as integers on a grid; as compact bytes, of the transposed matrix or not; without its second axis.
PLAIN, INTEGERS, PACKED, TRANSPOSED, DEPTHWISE = "plain", "integers", "packed", "packed_transposed", "depthwise"


@dataclass(frozen=True)
class Stored:
    """One form in which a weight lies in a file. tensor: its name there. scale, zero_point, axis: of integers, the
    first two by their names there. kernel: of a convolution."""

    tensor: str
    form: str = PLAIN
    scale: str = ""
    zero_point: str = ""
    axis: int | None = None
    kernel: Shape = ()

    @property
    def tensors(self) -> set[str]:
        """What it takes to read it; a sparse kernel's bias has no scale of its own any more."""
        return {name for name in (self.tensor, self.scale, self.zero_point) if name}

    def read(self, tensors: Mapping[str, Array]) -> Array:
        """The dense weight, in the shape that it has in the float32 graph; packed integers stay integers."""
        stored = tensors[self.tensor]
        if self.form == INTEGERS:
            scale, zero_point = (tensors[name].reshape(-1) for name in (self.scale, self.zero_point))
            return Grid(scale, zero_point.astype(np.int64), self.axis).dequantize(stored)
        if self.form == DEPTHWISE:
            return stored[:, None]
        if self.form in (PACKED, TRANSPOSED):
            dense = unpack(stored.tobytes())
            dense = dense.reshape(*dense.shape[:2], *self.kernel)
            return dense.T if self.form == TRANSPOSED else dense
        return stored


def read_weights(data: bytes, placements: Mapping[str, Iterable[Stored]]) -> dict[str, Array]:
    """Weight -> its dense values in an .onnx file. placements: weight -> the forms in which it may lie there. One that
    lies there in several, for layers that share it, is zero only where it is zero in each."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(data).graph.initializer}
    weights: dict[str, Array] = {}
    for name, forms in placements.items():
        for array in (form.read(tensors) for form in forms if form.tensors <= tensors.keys()):
            weights[name] = array if name not in weights else np.where(weights[name] != 0, weights[name], array)
    return weights
