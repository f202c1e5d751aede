"""What a layer costs, dense and sparse: the numbers that decide which kernel runs it.

A time is a sum of a handful of features of the layer's geometry, each with a constant in nanoseconds. The constants lie
in costs.json, one set an architecture, and come from measurements (`scripts/lab costs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeprune import typed
from edgeprune.kernels.packing import BLOCKS, tiled
from edgeprune.operator_row import NORM, SKIP_NORM

FILE = Path(__file__).with_name("costs.json")
# Formats that a sparse kernel exists for, the finest first.
FORMATS = {"fp32": ("unstructured", "block:1x4", "block:4x1"), "int8": ("unstructured", "block:1x4")}
BETWEEN = ("norm", "attention", "function")  # what stands between products over tokens
ONE_COLUMN, TOKENS = "gemm", "tokens"  # kinds of matrix products
RECURRENT = "recurrent"
# Columns of one accumulator: 16 floats, or 16 times 4 int8, as on the widest vectors.
LANES = 16
# Weights of a layer that are likely still in a core's own cache when the layer runs again.
CACHED = 1 << 16
# ONNX Runtime blocks the channels of float tensors by as many as its widest vectors hold (NCHWc). A pool must fill all
# its blocks; a convolution pads fours to them, and reads fewer channels than a block as they are (seen in 1.32).
NCHWC, NCHWC_PADDED = 16, 4
# Work on an activation tensor that is no convolution: plain operators of the runtime, and those on packed tensors.
MOVES = ("concat", "slice", "split", "resize", "gather", "pad", "shuffle")
POOLS = ("max_pool", "average_pool", "global_average_pool")
TENSOR_WORK = ("pack", "unpack", "add", *POOLS, "multiply", "gate", "table", "function", "batch_norm", *MOVES)

OTHER = "other"  # an operator without weights whose time was not measured
# The runtime joins an addition and the norm behind it, and is many times slower then than with both apart: what that
# takes but for the addition. Where it was not measured a norm is a norm.
LIKE = {SKIP_NORM: NORM}


@dataclass(frozen=True)
class Geometry:
    """One layer: outputs [M], inputs [C], taps of the kernel, input and output positions (of a matrix product: its
    columns for one example, such as tokens). depthwise: C groups of one channel each. clipped: a Clip is behind it.
    groups: more than one, of C channels each. volumes: positions are those of volumes."""

    outputs: int
    inputs: int
    taps: int
    positions_in: int
    positions_out: int
    gemm: bool = False
    depthwise: bool = False
    clipped: bool = False
    groups: int = 1
    volumes: bool = False

    @property
    def products(self) -> int:
        """Multiplications of the dense layer."""
        weights = self.inputs * self.taps if self.depthwise else self.outputs * self.inputs * self.taps
        return weights * self.positions_out

    @property
    def has_columns(self) -> bool:
        """True for a matrix product of so many columns that a weight meets vectors of them."""
        return self.gemm and self.positions_out >= LANES

    @property
    def is_blocked(self) -> bool:
        """True if the runtime's own float convolution blocks the channels."""
        if self.volumes:
            return False
        if self.groups > 1:
            return self.inputs % NCHWC == 0 and self.outputs // self.groups % NCHWC == 0
        few = self.inputs < NCHWC and not self.depthwise
        return not self.gemm and (few or self.inputs % NCHWC_PADDED == 0)

    @property
    def kind(self) -> str:
        """The class of dense kernel: "gemm" or, for one of several columns and with the addition of a bias behind it,
        "tokens"; "depthwise", "1x1" or "conv", with " rest" behind it where the runtime cannot block the channels: it
        runs a convolution half as fast then, and a depthwise one tens of times slower."""
        if self.gemm:
            return TOKENS if self.positions_out > 1 else ONE_COLUMN
        kind = "depthwise" if self.depthwise else "1x1" if self.taps == 1 else "conv"
        return kind if self.is_blocked else f"{kind} rest"

    def dense_features(self) -> dict[str, float]:
        """Work of a dense kernel: a call, its products, the weights that do not stay in a core's own cache (read once a
        call: what small planes are bound by), its activations (copied between the runtime's layouts), the places of the
        input that it gathers (what a convolution of few channels is bound by), its groups, and the outputs that another
        pass clips (a Relu is part of the kernel)."""
        outputs = float(self.outputs * self.positions_out)
        return {
            "call": 1.0,
            "product": float(self.products),
            "far": max(0.0, self.products / self.positions_out - CACHED),
            "cell": outputs if self.gemm and self.positions_out > 1 else self.inputs * self.positions_in + outputs,
            "gathered": float(self.positions_out * self.taps) if self.taps > 1 and not self.depthwise else 0.0,
            "group": float(self.inputs) if self.depthwise else 0.0,
            "clipped": outputs if self.clipped else 0.0,
        }

    def sparse_features(self, blocks: int) -> dict[str, float]:
        """Work of a sparse kernel with some stored blocks: a call, a vector of columns for each block, the block itself
        (its position and values are read at least once; for one column counted where they do not stay in a core's own
        cache), the copy of the input into padded planes or panels, and the outputs."""
        one_by_one = self.gemm and not self.has_columns
        vectors = self.positions_out if one_by_one else -(-self.positions_out // LANES)
        copied = self.inputs * self.positions_in if self.taps > 1 or self.has_columns else 0
        return {
            "call": 1.0,
            "vector": float(blocks * vectors),
            "block": float(max(blocks - CACHED // 4, 0) if one_by_one else blocks),
            "copied": float(copied),
            "output": float(self.outputs * self.positions_out),
        }

    def depthwise_features(self) -> dict[str, float]:
        """Work of the library's dense depthwise kernel: a call, its channels, vectors of columns for its taps, and rows
        (each of which begins a vector anew; of square planes), the copy of the input into padded planes, the channels
        that are also split for steps of two and more, and what is split under windows larger than 3x3."""
        vectors, strided = -(-self.positions_out // LANES), 2 * self.positions_out < self.positions_in
        return {
            "call": 1.0,
            "channel": float(self.inputs),
            "vector": float(self.inputs * self.taps * vectors),
            "row": self.inputs * self.taps * self.positions_out**0.5,
            "copied": float(self.inputs * self.positions_in),
            "split": float(self.inputs) if strided else 0.0,
            "split_cell": float(self.inputs * self.positions_in) if strided and self.taps > 9 else 0.0,
        }


@dataclass(frozen=True)
class RecurrentGeometry(Geometry):
    """A recurrent layer: its rows [M] are those of all gates of all directions, its positions the steps. units: of a
    direction; state_blocks: how many of the stored blocks multiply the state."""

    units: int = 0
    state_blocks: int = 0

    @property
    def products(self) -> int:
        """Multiplications of the dense layer."""
        return self.outputs * (self.inputs + self.units) * self.positions_out

    @property
    def kind(self) -> str:
        """The class of dense kernel, and of sparse ones."""
        return RECURRENT

    def dense_features(self) -> dict[str, float]:
        """Work of the runtime's kernel: a call, the inputs' products, of all steps at once, the state's, step by step,
        and the gates' activations."""
        return {
            "call": 1.0,
            "product": float(self.outputs * self.inputs * self.positions_out),
            "state_product": float(self.outputs * self.units * self.positions_out),
            "gate": float(self.outputs * self.positions_out),
        }

    def sparse_features(self, blocks: int) -> dict[str, float]:
        """Work of a sparse kernel: a call, a vector of steps for each block of the inputs' weights, the state's blocks
        in each step, the copy of the input into panels, and the gates' sums and activations."""
        vectors = -(-self.positions_out // LANES)
        return {
            "call": 1.0,
            "vector": float((blocks - self.state_blocks) * vectors),
            "state_block": float(self.state_blocks * self.positions_out),
            "copied": float(self.inputs * self.positions_in),
            "gate": float(self.outputs * self.positions_out),
        }


class Costs:
    """Predicted times in nanoseconds for one architecture.

    full: layers with a larger share of their blocks left (a first one of three channels, say) may be faster in a
    sparse kernel, but bring no library unless a sparser layer does. worth: share of the planned operators' time that
    a library must save; worth_unsure: the same in float where products of activations (gates, SiLU) stand between the
    layers, whose layout in the runtime a plan does not know: squeeze-and-excitation came out up to a fifth slower
    than predicted. pairs: two products over tokens may run in one operator.
    """

    full = 0.9
    worth = 0.03
    worth_unsure = 0.15
    pairs = True

    factor = 1.0

    def __init__(self, constants: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        self.constants = constants

    def slowed(self, factor: float) -> Costs:
        """The same for a machine that is `factor` times slower than the one that the constants come from."""
        other = copy(self)
        other.factor = factor * self.factor
        return other

    def dense(self, precision: str, geometry: Geometry) -> float:
        """The runtime's own kernel."""
        return self._sum(f"{precision} dense", geometry.kind, geometry.dense_features())

    def sparse(self, precision: str, pattern: str, geometry: Geometry, blocks: int) -> float:
        """The sparse kernel of a format, with so many stored blocks."""
        kind = "conv" if not geometry.gemm else TOKENS if geometry.has_columns else ONE_COLUMN
        kind = geometry.kind if geometry.kind == RECURRENT else kind
        return self._sum(f"{precision} {pattern}", kind, geometry.sparse_features(blocks))

    def depthwise(self, precision: str, geometry: Geometry) -> float:
        """The library's dense depthwise kernel."""
        return self._sum(f"{precision} depthwise", "conv", geometry.depthwise_features())

    def tensor_work(self, work: str, form: str, cells: int) -> float:
        """An operator on a whole int8 tensor; work: one of TENSOR_WORK, form: "packed" or "plain" (stock), cells: of
        the larger of its input and its output."""
        return self._sum(f"int8 {form}", work, {"call": 1.0, "cell": float(cells)})

    def max_pool(self, form: str, taps: int, sizes: tuple[int, int, int]) -> float:
        """A float MaxPool, form: "own", or stock: "blocked" or "plain" ([N, C, H, W]); taps: places of its window,
        sizes: channels, cells of its input and of its output."""
        return self._sum(f"fp32 {form}", "max_pool", pool_features(taps, sizes))

    def reorder(self, cells: int) -> float:
        """A float tensor of the runtime's blocked layout to [N, C, H, W], or back."""
        return self._sum("fp32 plain", "reorder", {"call": 1.0, "cell": float(cells)})

    def between(self, work: str, features: Mapping[str, float]) -> float:
        """An operator of the library between matrix products over tokens, or inside one; work: one of BETWEEN."""
        return self._sum("fp32 own", work, features)

    def rest(self, precision: str, operator: str, cells: int, products: int = 0) -> float:
        """An operator without weights in the runtime, by ONNX's name, or "convert": QuantizeLinear and its inverse. One
        that was not measured counts as what it is like, or as an addition. cells: of its largest tensor; products:
        multiplications of a product of two activations."""
        family = f"{precision} rest"
        known = self.constants[family]
        kind = next((kind for kind in (operator, LIKE.get(operator, OTHER)) if kind in known), OTHER)
        return self._sum(family, kind, rest_features(cells, products))

    def _sum(self, family: str, kind: str, features: Mapping[str, float]) -> float:
        constants = self.constants[family][kind]
        return self.factor * sum(constants[name] * value for name, value in features.items())


def rest_features(cells: int, products: int = 0) -> dict[str, float]:
    """Work of an operator without weights, as `Costs.rest` is given it."""
    return {"call": 1.0, "cell": float(cells), "product": float(products)}


def pool_features(taps: int, sizes: tuple[int, int, int]) -> dict[str, float]:
    """Work of a float MaxPool, as `Costs.max_pool` is given it."""
    return {"call": 1.0, "channel": float(sizes[0]), "cell": float(sizes[1]), "compared": float(taps * sizes[2])}


def norm_features(rows: int, width: int) -> dict[str, float]:
    """Work of a norm over each of some rows."""
    return {"call": 1.0, "row": float(rows), "cell": float(rows * width)}


def attention_features(heads: int, size: int, queries: int, keys: int) -> dict[str, float]:
    """Work of attention: its products, its scores, of which each becomes a power, and its inputs and outputs."""
    scores = float(heads * queries * keys)
    return {
        "call": 1.0,
        "product": 2 * scores * size,
        "score": scores,
        "cell": float(heads * size * 2 * (queries + keys)),
    }


def function_features(cells: int) -> dict[str, float]:
    """Work of a function of each number of a matrix product's output, inside it."""
    return {"cell": float(cells)}


def load(arch: str) -> Costs:
    """The constants of an architecture of costs.json; KeyError for one that has none."""
    constants = typed.parse_json(FILE.read_bytes())[arch]
    return Costs(typed.decode(Mapping[str, Mapping[str, Mapping[str, float]]], constants))  # type: ignore[type-abstract]


def stored_blocks(weight: NDArray[Any], pattern: str) -> int:
    """Blocks of a weight [M, C, ...] that hold a value which is not zero."""
    return int(tiled(weight != 0, *BLOCKS[pattern]).any(axis=(1, 2)).sum())
