"""What is said of an operator: the fields of a row of the table, [operators.py](operators.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

INFINITY = math.inf
LOOKUP, FUNCTION = "table", "function"  # pointwise: in integers, or in float between its neighbours
OWN = "own"
SHARED = "shared"
CONVOLUTION, TRANSPOSED, MATRIX = "Conv", "ConvTranspose", "Gemm"
INTERLEAVE = "DepthToSpace"  # puts the phases of a transposed convolution side by side
TRANSPOSE, GATHER = "Transpose", "Gather"  # around sparse kernels, of layouts and of the frames of a volume
JOIN = "Concat"  # of what a network gives
ADD, NORM = "Add", "LayerNormalization"
SKIP_NORM = "SkipLayerNormalization"  # the runtime's own, of a norm after an addition
NEVER_NEGATIVE, KEEPS_SIGN = "never negative", "keeps the sign"
LAST, ANY = "channels last", "any layout"
EITHER, POOL = "either layout", "pool"


@dataclass(frozen=True)
class Rule:
    """How an operator is quantized, by the LiteRT 8-bit quantization specification: ONNX Runtime's integer kernels
    accept whatever LiteRT's do, so that one scheme serves both.

    operands: number of leading inputs that are int8 activations (0: all of them); one may be a constant instead,
    stored int8 per tensor. weight_axis: axis of the output channels in input 1, a constant int8 weight, or None for
    an operator without one; input 2 is then an int32 bias. output: OWN scale, one SHARED with the operands, or a
    fixed (scale, zero point). attributes and constants (input -> value of every element) that a node must have for
    the rule to hold. absent: what an input means that a node leaves out. clamps: (low, high) of an activation that
    runs inside the operator before it. fuses: takes such an activation in. table: its data may be a constant, a
    lookup table. several: it has several outputs, all of them int8. integer: False for an operator that computes in
    float between int8 neighbours.
    """

    operands: int = 1
    weight_axis: Optional[int] = None
    output: Union[str, tuple[float, int]] = OWN
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, float] = field(default_factory=dict)
    absent: Mapping[int, float] = field(default_factory=dict)
    clamps: Optional[tuple[float, float]] = None
    fuses: bool = False
    table: bool = False
    several: bool = False
    integer: bool = True


@dataclass(frozen=True)
class Litert:
    """What the .tflite writer makes of an operator. form: the function in export/tflite that writes it; spelling: the
    one that makes simpler nodes of it first, "" for neither where it vanishes. int8: the condition for its int8 form,
    "" if it has none. data: the number of leading inputs that are data, 0 for all of them. layout: LAST if it wants
    channels last, ANY if it takes what it gets. clamps: its kernel applies a Relu, or its form lets one follow."""

    form: str = ""
    spelling: str = ""
    int8: str = ""
    data: int = 0
    layout: str = ""
    clamps: bool = False


@dataclass(frozen=True)
class Cell:
    """What a recurrent layer computes in a step. gates: their number; activations: of a direction, each choice of them
    that a kernel knows, the one without a word first; attributes: of the library's operator, besides those of all."""

    gates: int
    activations: tuple[tuple[str, ...], ...]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operator:
    """One row.

    refuses: what of a node's attributes is not supported though the operator is, in words, or "". int8: its rules, of
    which the first that holds counts; without one it stays float between a DequantizeLinear and a QuantizeLinear.
    weights: of a layer with weights in input 1, the operator that it counts as. cell: of a recurrent one. sign: of its
    output. joins: all of its inputs are parts of its output. bounds: it clips at inputs 1 and 2. moves: it only gives
    integers another shape. channels: EITHER if ONNX Runtime's float kernels run it in blocked channels as well, POOL if
    it always runs in blocked channels where their number allows it. packed: the work that it is for packed int8
    tensors, as the cost model calls it. pointwise: the same of one that computes each place of its output from that
    place of its inputs alone, in the runtime's own form. behind: ONNX Runtime may run it inside the kernel of the layer
    before it, and then often gives the kernel its name. inner: writers make it, no network is exported with it.
    """

    litert: Optional[Litert] = None
    int8: tuple[Rule, ...] = ()
    refuses: Callable[[Mapping[str, Any]], str] = lambda attributes: ""
    weights: str = ""
    cell: Optional[Cell] = None
    sign: str = ""
    channels: str = ""
    packed: str = ""
    pointwise: str = ""
    moves: bool = False
    bounds: bool = False
    joins: bool = False
    behind: bool = False
    inner: bool = False
