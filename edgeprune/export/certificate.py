"""The zero certificate: what became of each pruned weight, read back from the model file itself.

Who puts a weight into an .onnx file says where and how (`Stored`); it is read back from the file's own bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx
from onnx import numpy_helper

from edgeprune.artifact import Zeros
from edgeprune.errors import VerificationError
from edgeprune.export.graph import Array, Shape
from edgeprune.export.scales import Grid
from edgeprune.export.unfolded import Folded
from edgeprune.kernels.packing import unpack
from edgeprune.mask import BoolArray

# How: as it is; as integers on a grid; as compact bytes, of the transposed matrix or not; without its second axis; as
# compact bytes whose rows are those of gates, each rounded up to four.
PLAIN, INTEGERS, PACKED, TRANSPOSED, DEPTHWISE = "plain", "integers", "packed", "packed_transposed", "depthwise"
GATES = "packed_gates"


@dataclass(frozen=True)
class Stored:
    """One form in which a weight lies in a file. tensor: its name there. scale, zero_point, axis: of integers, the
    first two by their names there. kernel: of a convolution; of a recurrent layer its directions, gates and units.
    folded: how it was made one that a kernel takes."""

    tensor: str
    form: str = PLAIN
    scale: str = ""
    zero_point: str = ""
    axis: int | None = None
    kernel: Shape = ()
    folded: Optional[Folded] = None

    @property
    def tensors(self) -> set[str]:
        """What it takes to read it. A form is passed over where the file lacks a part: integers whose DequantizeLinear
        went when a sparse kernel took them."""
        return {name for name in (self.tensor, self.scale, self.zero_point) if name}

    def read(self, tensors: Mapping[str, Array]) -> Array:
        """The dense weight, in the shape that it has in the float32 graph; packed integers stay integers."""
        stored = tensors[self.tensor]
        if self.form == INTEGERS:
            scale, zero_point = (tensors[name].reshape(-1) for name in (self.scale, self.zero_point))
            return Grid(scale, zero_point.astype(np.int64), self.axis).dequantize(stored)
        if self.form == DEPTHWISE:
            return stored[:, None]
        if self.form == GATES:
            directions, gates, units = self.kernel
            rows = unpack(stored.tobytes())[:, :, 0]
            each = rows.reshape(directions, gates, -1, rows.shape[1])[:, :, :units]
            return each.reshape(directions, gates * units, rows.shape[1])
        if self.form in (PACKED, TRANSPOSED):
            dense = unpack(stored.tobytes())
            dense = dense.reshape(*dense.shape[:2], *self.kernel)
            dense = dense if self.folded is None else self.folded.unfold(dense)
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


# torch name -> (its tensors in the file, how the weight in PyTorch's shape is made of what is stored)
FileWeights = Mapping[str, "tuple[tuple[str, ...], Callable[[Mapping[str, Array]], Array]]"]


def certify(stored: Mapping[str, Array], masks: Mapping[str, BoolArray], places: FileWeights) -> dict[str, Zeros]:
    """Compare the weights stored in a file with the masks, tensor by tensor.

    stored: name in the file -> dequantized dense array; places: torch name -> (names in the file, how the weight is
    made of them). VerificationError names the first tensor that lost a zero, or that is not in the file at all.
    """
    certificate = {}
    for name, mask in masks.items():
        if name not in places:
            continue  # the network never reads this parameter, so the exporter left it out
        where, pick = places[name]
        absent = [tensor for tensor in where if tensor not in stored]
        if absent or not where:
            looked = ", ".join(absent) or "any tensor"
            raise VerificationError(f"zero certificate: tensor {name} is not in the model file (looked for {looked})")
        pruned, zero = ~mask, pick(stored) == 0
        if pruned.shape != zero.shape:
            raise VerificationError(
                f"zero certificate: tensor {name} has shape {zero.shape} in the file, expected {pruned.shape}"
            )
        lost = int(np.count_nonzero(pruned & ~zero))
        if lost:
            raise VerificationError(f"zero certificate: {lost} of {int(pruned.sum())} zeros of tensor {name} were lost")
        certificate[name] = Zeros(
            expected=int(pruned.sum()),
            lost=lost,
            gained=int(np.count_nonzero(zero & ~pruned)),
            size=int(zero.size),
            density=float(1 - zero.mean()) if zero.size else 1.0,
        )
    return certificate
