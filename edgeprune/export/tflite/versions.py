"""Which version of an operator a .tflite file has to ask for.

A runtime refuses versions newer than it knows, and its kernels take a version as a promise about the features in use:
so each operator is written with the lowest version that covers its features. The rules are those of TensorFlow's
`tensorflow/lite/tools/versioning/op_version.cc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Operators whose int8 form is version 2 and whose float form is version 1.
_INT8_IS_VERSION_2 = frozenset(
    ("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "DEQUANTIZE", "GATHER", "LOGISTIC", "MAXIMUM", "SPACE_TO_DEPTH")
) | frozenset(
    ("MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "PAD", "PADV2", "RELU", "RELU6", "RESIZE_BILINEAR")
    + ("RESIZE_NEAREST_NEIGHBOR", "SOFTMAX", "STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE", "TRANSPOSE_CONV")
)
# Operators with one version for all that is written here.
_FIXED = {"TRANSPOSE_CONV": 3, "BROADCAST_TO": 2}
# Operators that need another version for tensors of more than four dimensions (of different shapes, for arithmetic).
_ARITHMETIC = {"SUB": 3, "DIV": 2, "MAXIMUM": 3, "MINIMUM": 3}
_MORE_THAN_FOUR = {"TRANSPOSE": 4, "PAD": 4, "PADV2": 4, "STRIDED_SLICE": 4, **_ARITHMETIC}


@dataclass(frozen=True)
class Signature:
    """What the version of one operator depends on.

    int8: its data are int8. shapes: of its data inputs. options: its schema options object (or None). sparse: its
    weights are stored sparse. grouped: a convolution whose filter sees a part of the input channels.
    rescale: product of the input scales over the output scale (int8 MUL), else 0.
    """

    code: str
    int8: bool
    shapes: Sequence[Sequence[int]]
    options: Any
    sparse: bool = False
    grouped: bool = False
    rescale: float = 0.0


def version(signature: Signature) -> int:
    """The lowest version with the features of `signature`."""
    code, options = signature.code, signature.options
    if code == "CONV_2D":
        return 6 if signature.grouped else 3 if signature.int8 else 1
    if code == "DEPTHWISE_CONV_2D":
        dilated = options.dilationHFactor != 1 or options.dilationWFactor != 1
        return 3 if signature.int8 else 2 if dilated else 1
    if code == "FULLY_CONNECTED":
        # Any other version makes the default delegate run a sparse matrix as if it were dense.
        return 8 if signature.sparse else 5 if options.keepNumDims else 4 if signature.int8 else 1
    if code in _FIXED:
        return _FIXED[code]
    if code == "TILE":
        return 3 if signature.int8 else 1
    if code in ("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR") and (options.halfPixelCenters or options.alignCorners):
        return 3
    if code == "MUL" and signature.rescale >= 1.0:
        return 3
    return _by_rank_and_type(signature)


def _by_rank_and_type(signature: Signature) -> int:
    rank = max((len(shape) for shape in signature.shapes), default=0)
    alike = len({tuple(shape) for shape in signature.shapes}) == 1
    if signature.code == "TRANSPOSE" and rank > 5:
        return 6
    if signature.code in _MORE_THAN_FOUR and rank > 4 and not (signature.code in _ARITHMETIC and alike):
        return _MORE_THAN_FOUR[signature.code]
    return 2 if signature.int8 and signature.code in _INT8_IS_VERSION_2 else 1
