"""The zero certificate: what became of each pruned weight, read back from the model file itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeprune.artifact import Zeros
from edgeprune.errors import VerificationError
from edgeprune.mask import Array, BoolArray

# torch name -> how its mask lies in the file (transposed, permuted and reshaped as the weights are)
FileMasks = Mapping[str, "tuple[str, Callable[[BoolArray], BoolArray]]"]


def certify(stored: Mapping[str, Array], masks: Mapping[str, BoolArray], places: FileMasks) -> dict[str, Zeros]:
    """Compare the weights stored in a file with the masks, tensor by tensor.

    stored: name in the file -> dequantized dense array; places: torch name -> (name in the file, how the mask is laid
    out there). VerificationError names the first tensor that lost a zero, or that is not in the file at all.
    """
    certificate = {}
    for name, mask in masks.items():
        if name not in places:
            continue  # the network never reads this parameter, so the exporter left it out
        where, lay_out = places[name]
        if where not in stored:
            raise VerificationError(f"zero certificate: tensor {name} is not in the model file (looked for {where})")
        pruned, zero = ~lay_out(mask), stored[where] == 0
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
