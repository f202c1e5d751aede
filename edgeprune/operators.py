"""The operators that export knows, a row each: all that is decided about one, and where its forms are.

Export's passes, the profile's reader and the pages ask this table; a form is named as MODULE.FUNCTION and imported by
the writer that wants it, so that reading the table needs nothing else. A new operator is a row here and, for each
writer in which it has no stock form yet, a function there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

INFINITY = math.inf
OWN = "own"
SHARED = "shared"
CONVOLUTION, TRANSPOSED, MATRIX = "Conv", "ConvTranspose", "Gemm"
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
    fixed (scale, zero point). attributes and constants (input -> value of every element) that a node must have for the
    rule to hold. absent: what an input means that a node leaves out. clamps: (low, high) of an activation that runs
    inside the operator before it. fuses: takes such an activation in. table: its data may be a constant, a lookup
    table. integer: False for an operator that computes in float between int8 neighbours.
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
class Operator:
    """One row.

    refuses: what of a node's attributes is not supported though the operator is, in words, or "". int8: its rules, of
    which the first that holds counts; without one it stays float between a DequantizeLinear and a QuantizeLinear.
    weights: of a layer with weights in input 1, the operator that it counts as. sign: of its output. joins: all of its
    inputs are parts of its output. bounds: it clips at inputs 1 and 2. gates: it may multiply activations with each
    other. moves: it only gives integers another shape. channels: EITHER if ONNX Runtime's float kernels run it in
    blocked channels as well, POOL if in those wherever it can. packed: the work that it is for packed int8 tensors, as
    the cost model calls it. behind: ONNX Runtime may run it inside the kernel of the layer before it, and then often
    gives the kernel its name. inner: writers
    make it, no network is exported with it.
    """

    litert: Optional[Litert] = None
    int8: tuple[Rule, ...] = ()
    refuses: Callable[[Mapping[str, Any]], str] = lambda attributes: ""
    weights: str = ""
    sign: str = ""
    channels: str = ""
    packed: str = ""
    moves: bool = False
    bounds: bool = False
    gates: bool = False
    joins: bool = False
    behind: bool = False
    inner: bool = False


def _resize_mode(attributes: Mapping[str, Any]) -> str:
    mode = attributes.get("mode", "nearest")
    return "" if mode in ("nearest", "linear") else f"with mode {mode}"


def _binary(int8: str = "") -> Litert:
    return Litert("elementwise.binary", int8=int8, layout=ANY, clamps=True)


def _unary(int8: str = "") -> Litert:
    return Litert("elementwise.unary", int8=int8, layout=ANY)


_PLAIN = {"transA": 0, "alpha": 1.0, "beta": 1.0}
_UNIT = (1 / 256, -128)  # [0, 1): what logistic and softmax must give in LiteRT
_SAME = (Rule(output=SHARED),)
_RESHAPE = Litert(spelling="reshape")
_BOUNDS = {1: -INFINITY, 2: INFINITY}

OPERATORS: dict[str, Operator] = {
    "Add": Operator(_binary("always"), (Rule(2, fuses=True),), channels=EITHER, packed="add", behind=True),
    "AveragePool": Operator(
        Litert("pooling.average_pool", int8="average", layout=LAST, clamps=True), _SAME,
        sign=KEEPS_SIGN, channels=POOL, packed="average_pool",
    ),
    "BatchNormalization": Operator(Litert(spelling="batch_norm")),
    "Clip": Operator(
        Litert("elementwise.clip", "clip", layout=ANY),
        (
            Rule(constants={1: 0.0, 2: INFINITY}, absent=_BOUNDS, clamps=(0.0, INFINITY)),
            Rule(constants={1: 0.0, 2: 6.0}, absent=_BOUNDS, clamps=(0.0, 6.0)),
        ),
        channels=EITHER, bounds=True, behind=True,
    ),
    "Concat": Operator(
        Litert("reshaping.concat", int8="always", layout=ANY), (Rule(0, output=SHARED),),
        sign=KEEPS_SIGN, channels=EITHER, joins=True,
    ),
    "Conv": Operator(
        Litert("convolution.conv", int8="weighted", layout=LAST, clamps=True), (Rule(weight_axis=0, fuses=True),),
        weights=CONVOLUTION,
    ),
    "ConvTranspose": Operator(
        Litert("convolution.conv_transpose", int8="weighted", layout=LAST, clamps=True),
        (Rule(weight_axis=1, attributes={"group": 1}, fuses=True),), weights=TRANSPOSED,
    ),
    "DepthToSpace": Operator(
        Litert("reshaping.depth_to_space", int8="always", layout=LAST), _SAME, sign=KEEPS_SIGN,
    ),
    "DequantizeLinear": Operator(
        Litert("elementwise.dequantize", layout=ANY), sign=KEEPS_SIGN, behind=True, inner=True,
    ),
    "Div": Operator(_binary()),
    "Flatten": Operator(_RESHAPE, _SAME, moves=True),
    "Gather": Operator(
        Litert("reshaping.gather", int8="always", data=1), (Rule(output=SHARED, table=True),)
    ),
    "GRU": Operator(Litert("recurrent.gru")),
    "Gemm": Operator(
        Litert("dense.gemm", int8="weighted", clamps=True),
        (
            Rule(weight_axis=0, attributes={**_PLAIN, "transB": 1}, fuses=True),
            Rule(weight_axis=1, attributes={**_PLAIN, "transB": 0}, fuses=True),
        ),
        weights=MATRIX,
    ),
    "GlobalAveragePool": Operator(
        Litert(spelling="global_average"), (Rule(),), channels=POOL, packed="global_average_pool",
    ),
    "GlobalMaxPool": Operator(Litert(spelling="global_max")),
    "HardSigmoid": Operator(
        Litert("elementwise.hard_sigmoid", layout=ANY), (Rule(output=_UNIT, integer=False),),
        sign=NEVER_NEGATIVE, behind=True,
    ),
    # HardSwish and Softmax have int8 kernels in LiteRT too, but its default delegate knows none of them: in float the
    # whole network stays in one piece and runs faster, and exactly.
    "HardSwish": Operator(_unary(), (Rule(),)),
    "Identity": Operator(Litert()),
    "LSTM": Operator(Litert("recurrent.lstm")),
    "LeakyRelu": Operator(Litert("elementwise.leaky_relu", layout=ANY), behind=True),
    "MatMul": Operator(
        Litert("dense.matmul", int8="weighted", clamps=True), (Rule(weight_axis=1, fuses=True),), weights=MATRIX,
    ),
    "MaxPool": Operator(
        Litert("pooling.max_pool", int8="always", layout=LAST, clamps=True), _SAME,
        sign=KEEPS_SIGN, channels=POOL, packed="max_pool",
    ),
    "Mul": Operator(_binary("always"), (Rule(2, fuses=True),), channels=EITHER, gates=True),
    "PRelu": Operator(Litert("elementwise.prelu", layout=ANY)),
    "Pad": Operator(
        Litert("reshaping.pad", int8="padding", data=1, layout=ANY),
        (Rule(output=SHARED, attributes={"mode": "constant"}, constants={2: 0.0}, absent={2: 0.0}),),
    ),
    "QuantizeLinear": Operator(Litert("elementwise.quantize", layout=ANY), sign=KEEPS_SIGN, behind=True, inner=True),
    "RNN": Operator(Litert("recurrent.rnn")),
    "ReduceMean": Operator(Litert("reduction.mean", "reduce_mean", "always"), (Rule(),), sign=KEEPS_SIGN),
    "Relu": Operator(
        Litert("elementwise.relu", int8="always", layout=ANY), (Rule(clamps=(0.0, INFINITY)),),
        sign=NEVER_NEGATIVE, channels=EITHER, behind=True,
    ),
    "Relu6": Operator(
        Litert("elementwise.relu", int8="always", layout=ANY), sign=NEVER_NEGATIVE, inner=True,
    ),
    "Reshape": Operator(
        Litert("reshaping.reshape", "reshape", "always"), _SAME, sign=KEEPS_SIGN, moves=True,
    ),
    "Resize": Operator(
        Litert("reshaping.resize", int8="nearest", data=1, layout=LAST),
        (Rule(output=SHARED, attributes={"mode": "nearest"}),), refuses=_resize_mode, sign=KEEPS_SIGN,
    ),
    "Sigmoid": Operator(_unary("fixed_scale"), (Rule(output=_UNIT),), sign=NEVER_NEGATIVE, behind=True),
    "Slice": Operator(Litert("reshaping.slice_", "slice_", "always", layout=ANY), sign=KEEPS_SIGN),
    "Softmax": Operator(Litert("reduction.softmax"), (Rule(output=_UNIT),), sign=NEVER_NEGATIVE),
    "Split": Operator(Litert(spelling="split")),
    "Squeeze": Operator(_RESHAPE, _SAME, moves=True),
    "Sub": Operator(_binary("always")),
    "Tanh": Operator(_unary("fixed_scale"), (Rule(output=(1 / 128, 0)),), behind=True),
    "Transpose": Operator(Litert("reshaping.transpose", int8="always"), _SAME, sign=KEEPS_SIGN),
    "Unsqueeze": Operator(_RESHAPE, _SAME, moves=True),
}  # fmt: skip
# What a network may be exported with.
EXPORTED = tuple(sorted(name for name, row in OPERATORS.items() if not row.inner))


def row(kind: str) -> Operator:
    """The row of an operator, one without any decision where the table has none."""
    return OPERATORS.get(kind, _UNKNOWN)


def litert(kind: str) -> Litert:
    """What the .tflite writer makes of an operator."""
    return row(kind).litert or _NOTHING


_UNKNOWN, _NOTHING = Operator(), Litert()
