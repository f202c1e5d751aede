"""The operators that export knows, a row each: all that is decided about one, and where its forms are.

Export's passes, the profile's reader and the pages ask this table; a form is named as MODULE.FUNCTION and imported by
the writer that wants it, so that reading the table needs nothing else. A new operator is a row here and, for each
writer in which it has no stock form yet, a function there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.operator_row import (
    ANY,
    CONVOLUTION,
    EITHER,
    FUNCTION,
    INFINITY,
    KEEPS_SIGN,
    LAST,
    LOOKUP,
    MATRIX,
    NEVER_NEGATIVE,
    POOL,
    SHARED,
    TRANSPOSED,
    Cell,
    Litert,
    Operator,
    Rule,
)


def _resize_mode(attributes: Mapping[str, Any]) -> str:
    mode = attributes.get("mode", "nearest")
    return "" if mode in ("nearest", "linear") else f"with mode {mode}"


def _binary(int8: str = "") -> Litert:
    return Litert("elementwise.binary", int8=int8, layout=ANY, clamps=True)


def _unary(int8: str = "") -> Litert:
    return Litert("elementwise.unary", int8=int8, layout=ANY)


def _function() -> Litert:
    return Litert("pointwise.function", layout=ANY)


def _several(spelling: str = "") -> Litert:
    return Litert("pointwise.several", spelling, layout=ANY)


_PLAIN = {"transA": 0, "alpha": 1.0, "beta": 1.0}
_UNIT = (1 / 256, -128)  # [0, 1): what logistic and softmax must give in LiteRT
_SAME = (Rule(output=SHARED),)
_RESHAPE = Litert(spelling="reshape")
_REDUCTION = Litert("reduction.reduce", "reduction", data=1)
_BOUNDS = {1: -INFINITY, 2: INFINITY}

OPERATORS: dict[str, Operator] = {
    "Abs": Operator(_function(), pointwise=FUNCTION, sign=NEVER_NEGATIVE),
    "Add": Operator(
        _binary("always"), (Rule(2, fuses=True),), channels=EITHER, packed="add", behind=True, pointwise="add",
    ),
    "ArgMax": Operator(Litert("ranking.arg_extreme")),
    "ArgMin": Operator(Litert("ranking.arg_extreme")),
    "And": Operator(_several()),
    "AveragePool": Operator(
        Litert("pooling.average_pool", "pool", "average", layout=LAST, clamps=True), _SAME,
        sign=KEEPS_SIGN, channels=POOL, packed="average_pool",
    ),
    "BatchNormalization": Operator(
        Litert(spelling="batch_norm"), (Rule(fuses=True, integer=False),), packed="batch_norm",
    ),
    "Cast": Operator(Litert("pointwise.cast", layout=ANY)),
    "Ceil": Operator(_function(), pointwise=FUNCTION),
    "Celu": Operator(Litert(spelling="celu", layout=ANY), pointwise=FUNCTION),
    "Clip": Operator(
        Litert("elementwise.clip", "clip", layout=ANY),
        (
            Rule(constants={1: 0.0, 2: INFINITY}, absent=_BOUNDS, clamps=(0.0, INFINITY)),
            Rule(constants={1: 0.0, 2: 6.0}, absent=_BOUNDS, clamps=(0.0, 6.0)),
        ),
        channels=EITHER, bounds=True, behind=True, pointwise=FUNCTION,
    ),
    "Col2Im": Operator(Litert(spelling="col2im")),
    "Concat": Operator(
        Litert("reshaping.concat", int8="always", layout=ANY), (Rule(0, output=SHARED),),
        sign=KEEPS_SIGN, channels=EITHER, joins=True, packed="concat",
    ),
    "ConstantOfShape": Operator(Litert(spelling="constant_of_shape")),
    "Conv": Operator(
        Litert("volumes.conv", int8="weighted", layout=LAST, clamps=True), (Rule(weight_axis=0, fuses=True),),
        weights=CONVOLUTION,
    ),
    "ConvTranspose": Operator(
        Litert("transposed.conv_transpose", int8="weighted", layout=LAST, clamps=True),
        (Rule(weight_axis=1, attributes={"group": 1}, fuses=True),), weights=TRANSPOSED,
    ),
    "CumSum": Operator(Litert("ranking.cumulative_sum", data=1)),
    "Cos": Operator(_function(), pointwise=FUNCTION),
    "DFT": Operator(Litert(spelling="dft")),
    "DepthToSpace": Operator(
        Litert("reshaping.depth_to_space", int8="always", layout=LAST), _SAME, sign=KEEPS_SIGN,
    ),
    "DequantizeLinear": Operator(
        Litert("elementwise.dequantize", layout=ANY), sign=KEEPS_SIGN, behind=True, inner=True,
    ),
    "Div": Operator(_binary(), pointwise=FUNCTION),
    "Elu": Operator(Litert("pointwise.function", "elu", layout=ANY), pointwise=FUNCTION),
    "Equal": Operator(_several()),
    "Erf": Operator(Litert(spelling="erf", layout=ANY), pointwise=FUNCTION),
    "Exp": Operator(_function(), pointwise=FUNCTION, sign=NEVER_NEGATIVE),
    "Einsum": Operator(Litert(spelling="einsum")),
    "Expand": Operator(
        Litert("broadcasting.expand", "expand", "always", data=1, layout=ANY), _SAME, sign=KEEPS_SIGN,
    ),
    "Flatten": Operator(_RESHAPE, _SAME, moves=True),
    "Floor": Operator(_function(), pointwise=FUNCTION),
    "Gather": Operator(
        Litert("reshaping.gather", int8="always", data=1), (Rule(output=SHARED, table=True),), packed="gather",
    ),
    "Gelu": Operator(Litert("pointwise.gelu", layout=ANY), pointwise=FUNCTION),
    "GatherElements": Operator(
        Litert("indexing.gather_elements", int8="always", data=1), _SAME, sign=KEEPS_SIGN,
    ),
    "GatherND": Operator(Litert("indexing.gather_nd", int8="always", data=1), _SAME, sign=KEEPS_SIGN),
    "GRU": Operator(
        Litert("recurrent.gru"), weights="GRU", cell=Cell(3, (("Sigmoid", "Tanh"),), ("linear_before_reset",)),
    ),
    "Gemm": Operator(
        Litert("dense.gemm", "gemm", "weighted", clamps=True),
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
    "GroupNormalization": Operator(Litert("normalization.group_norm", data=1, layout=ANY)),
    "Greater": Operator(_several()),
    "GreaterOrEqual": Operator(_several()),
    "HardSigmoid": Operator(
        Litert("elementwise.hard_sigmoid", layout=ANY), (Rule(output=_UNIT, integer=False),),
        sign=NEVER_NEGATIVE, behind=True, pointwise=FUNCTION,
    ),
    # It has an int8 kernel in LiteRT too, but its default delegate knows none: in float the whole network stays in one
    # piece and runs faster, and exactly.
    "HardSwish": Operator(_unary(), (Rule(),), pointwise=FUNCTION),
    "Identity": Operator(Litert()),
    "InstanceNormalization": Operator(Litert("normalization.instance_norm", data=1, layout=ANY)),
    "LayerNormalization": Operator(Litert("normalization.layer_norm", data=1, layout=ANY)),
    "LSTM": Operator(
        Litert("recurrent.lstm"), weights="LSTM", cell=Cell(4, (("Sigmoid", "Tanh", "Tanh"),)),
    ),
    "LeakyRelu": Operator(Litert("elementwise.leaky_relu", layout=ANY), behind=True, pointwise=FUNCTION),
    "LogSoftmax": Operator(Litert("reduction.softmax")),
    "LpNormalization": Operator(Litert("normalization.lp_norm", layout=ANY)),
    "Less": Operator(_several()),
    "LessOrEqual": Operator(_several()),
    "Log": Operator(_function(), pointwise=FUNCTION),
    "MatMul": Operator(
        Litert("dense.matmul", int8="weighted", clamps=True), (Rule(weight_axis=1, fuses=True),), weights=MATRIX,
    ),
    "Max": Operator(_several("extremum"), pointwise=FUNCTION),
    "MaxPool": Operator(
        Litert("pooling.max_pool", "pool", "always", layout=LAST, clamps=True), _SAME,
        sign=KEEPS_SIGN, channels=POOL, packed="max_pool",
    ),
    "Min": Operator(_several("extremum"), pointwise=FUNCTION),
    "Mish": Operator(Litert(spelling="mish", layout=ANY), pointwise=FUNCTION),
    "Mod": Operator(_several("mod")),
    "Mul": Operator(
        _binary("always"), (Rule(2, fuses=True),), channels=EITHER, packed="multiply", pointwise="multiply",
    ),
    "Neg": Operator(_function(), pointwise=FUNCTION),
    "Not": Operator(_function()),
    "Or": Operator(_several()),
    "OneHot": Operator(Litert("indexing.one_hot")),
    "PRelu": Operator(Litert("elementwise.prelu", layout=ANY)),
    "Pad": Operator(
        Litert("reshaping.pad", int8="padding", data=1, layout=ANY),
        (Rule(output=SHARED, attributes={"mode": "constant"}, constants={2: 0.0}, absent={2: 0.0}),),
        packed="pad",
    ),
    "Pow": Operator(_several("pow"), pointwise=FUNCTION),
    "QuantizeLinear": Operator(Litert("elementwise.quantize", layout=ANY), sign=KEEPS_SIGN, behind=True, inner=True),
    "RMSNormalization": Operator(Litert("normalization.rms_norm", data=1, layout=ANY)),
    "Range": Operator(Litert(spelling="constant")),
    "ReduceL1": Operator(_REDUCTION, sign=NEVER_NEGATIVE),
    "ReduceL2": Operator(_REDUCTION, sign=NEVER_NEGATIVE),
    "ReduceLogSum": Operator(_REDUCTION),
    "ReduceLogSumExp": Operator(Litert("reduction.log_sum_exp", "reduction", data=1)),
    "ReduceMax": Operator(_REDUCTION, sign=KEEPS_SIGN),
    "ReduceMean": Operator(
        Litert("reduction.reduce", "reduction", "always"), (Rule(),), sign=KEEPS_SIGN, packed="global_average_pool",
    ),
    "ReduceMin": Operator(_REDUCTION, sign=KEEPS_SIGN),
    "ReduceProd": Operator(_REDUCTION, sign=KEEPS_SIGN),
    "ReduceSum": Operator(_REDUCTION, sign=KEEPS_SIGN),
    "ReduceSumSquare": Operator(_REDUCTION, sign=NEVER_NEGATIVE),
    "Reciprocal": Operator(Litert(spelling="reciprocal", layout=ANY), pointwise=FUNCTION),
    "RNN": Operator(Litert("recurrent.rnn"), weights="RNN", cell=Cell(1, (("Tanh",), ("Relu",)), ("relu",))),
    "Relu": Operator(
        Litert("elementwise.relu", int8="always", layout=ANY), (Rule(clamps=(0.0, INFINITY)),),
        sign=NEVER_NEGATIVE, channels=EITHER, behind=True, pointwise=FUNCTION,
    ),
    "Relu6": Operator(
        Litert("elementwise.relu", int8="always", layout=ANY), sign=NEVER_NEGATIVE, inner=True,
    ),
    "Reshape": Operator(
        Litert("reshaping.reshape", "reshape", "always"), _SAME, sign=KEEPS_SIGN, moves=True, packed="shuffle",
    ),
    "Resize": Operator(
        Litert("reshaping.resize", "resize", "nearest", data=1, layout=LAST),
        (Rule(output=SHARED, attributes={"mode": "nearest"}),), refuses=_resize_mode, sign=KEEPS_SIGN,
        packed="resize",
    ),
    "Round": Operator(_function(), pointwise=FUNCTION),
    "Selu": Operator(Litert(spelling="selu", layout=ANY), pointwise=FUNCTION),
    "ScatterElements": Operator(Litert("indexing.scatter_elements")),
    "ScatterND": Operator(Litert("indexing.scatter_nd")),
    "Sigmoid": Operator(
        _unary("fixed_scale"), (Rule(output=_UNIT),), sign=NEVER_NEGATIVE, behind=True, pointwise=LOOKUP,
    ),
    "Sign": Operator(_function(), pointwise=FUNCTION),
    "Sin": Operator(_function(), pointwise=FUNCTION),
    "Slice": Operator(
        Litert("reshaping.slice_", "slice_", "always", layout=ANY), _SAME, sign=KEEPS_SIGN, packed="slice",
    ),
    # In float: 256 levels would leave the weights of a long sequence, each a small share of 1, none of their digits.
    "Softmax": Operator(Litert("reduction.softmax"), sign=NEVER_NEGATIVE),
    "Softplus": Operator(Litert(spelling="softplus", layout=ANY), sign=NEVER_NEGATIVE, pointwise=FUNCTION),
    "Softsign": Operator(Litert(spelling="softsign", layout=ANY), pointwise=FUNCTION),
    "SpaceToDepth": Operator(
        Litert("reshaping.space_to_depth", int8="always", layout=LAST), _SAME, sign=KEEPS_SIGN,
    ),
    "Split": Operator(
        Litert(spelling="split"), (Rule(output=SHARED, several=True),), sign=KEEPS_SIGN, packed="split",
    ),
    "Sqrt": Operator(_function(), pointwise=FUNCTION, sign=NEVER_NEGATIVE),
    "Squeeze": Operator(_RESHAPE, _SAME, moves=True),
    "Sub": Operator(_binary("always"), pointwise=FUNCTION),
    "Tanh": Operator(_unary("fixed_scale"), (Rule(output=(1 / 128, 0)),), behind=True, pointwise=FUNCTION),
    "Tile": Operator(
        Litert("broadcasting.tile", int8="always", data=1, layout=ANY), _SAME, sign=KEEPS_SIGN,
    ),
    "TopK": Operator(Litert("ranking.top_k", data=1)),
    "ThresholdedRelu": Operator(Litert(spelling="thresholded_relu", layout=ANY), pointwise=FUNCTION),
    "Transpose": Operator(Litert("reshaping.transpose", int8="always"), _SAME, sign=KEEPS_SIGN),
    "Trilu": Operator(Litert(spelling="constant")),
    "Unsqueeze": Operator(_RESHAPE, _SAME, moves=True),
    "Where": Operator(_several()),
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
