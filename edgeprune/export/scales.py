"""The numbers of int8: scales and zero points, weights and biases on the int8 grid (NumPy alone, no graph).

real = scale * (integer - zero_point), the scheme of Jacob et al. 2018 ("Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference") within the limits of the LiteRT 8-bit quantization specification:
activations int8 per tensor with any zero point, weights int8 in -127..127 per output channel with zero point 0,
biases int32 with the scale of the accumulator. Real zero is always an integer, so a pruned weight stays exactly zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ExportError

Floats = NDArray[np.float32]

WEIGHT_MAX = 127
BIAS_MAX = 2**30  # half of int32: the accumulator still has room for the products
SMALLEST = 2.0**-40  # keeps scale products and their quotients inside float32's normal numbers
# A channel's scale is at least this share of its tensor's largest: a channel that is (nearly) all zero has no scale of
# its own, and a scale near 0 would leave the range of the runtimes' fixed-point multipliers.
SMALLEST_SHARE = 2.0**-16
# Clips tried for each channel, as shares of its largest weight. With n surviving weights a clip takes away about
# n / (12 * 127**2) of the squared error at best, so that only rows of thousands of weights gain.
CLIPS = (0.99, 0.98, 0.96, 0.93, 0.9, 0.85, 0.8)
# A clip must take away this share of the squared error, or the channel keeps its largest weight.
WORTHWHILE = 0.02


@dataclass(frozen=True)
class Scale:
    """Per-tensor int8 quantization: real = scale * (integer - zero_point); scale is a float32's value."""

    scale: float
    zero_point: int

    @property
    def grid(self) -> Grid:
        """The same, as it is kept beside integers."""
        return Grid(np.array([self.scale], np.float32), np.array([self.zero_point], np.int64))

    def quantize(self, value: float) -> int:
        """The integer of a real value, infinite ones included, as QuantizeLinear rounds it."""
        with np.errstate(over="ignore"):
            steps = np.rint(np.clip(np.float32(value) / np.float32(self.scale), -1024, 1024))
        return int(np.clip(steps + self.zero_point, -128, 127))

    def bounds(self) -> tuple[float, float]:
        """Smallest and largest real value, computed in float32 as ONNX Runtime does."""
        step = np.float32(self.scale)
        return float(step * np.float32(-128 - self.zero_point)), float(step * np.float32(127 - self.zero_point))


@dataclass(frozen=True)
class Grid:
    """How the integers of a tensor are read: real = scale * (integer - zero_point). scale, zero_point: [1], or [n] with
    one for each index along `axis`; axis None: one grid for the tensor whatever its shape."""

    scale: Floats
    zero_point: NDArray[np.int64]
    axis: Optional[int] = None

    @property
    def per_tensor(self) -> bool:
        """One scale for the whole tensor."""
        return self.scale.size == 1

    def same(self, other: Grid | None) -> bool:
        """Equal integers mean equal real values."""
        if other is None or self.scale.shape != other.scale.shape:
            return False
        return bool(np.all(self.scale == other.scale) and np.all(self.zero_point == other.zero_point))

    def dequantize(self, integers: NDArray[Any]) -> Floats:
        """The real values of integers of any type, float32 in their shape."""
        shape = [] if self.per_tensor else [-1 if axis == self.axis else 1 for axis in range(integers.ndim)]
        scale, zero = self.scale.reshape(shape), self.zero_point.reshape(shape)
        real: Floats = ((integers.astype(np.int64) - zero) * scale).astype(np.float32)
        return real


@dataclass(frozen=True)
class Integers:
    """A constant as a node reads it: int8 or int32 values in its shape, and their grid."""

    values: NDArray[Any]
    grid: Grid


def activation_scale(low: float, high: float) -> Scale:
    """The grid over [low, high], widened to contain 0; ExportError if a bound is not finite.

    A range from or to zero is covered from the inside: 255 steps never reach past the other bound, so that a runtime
    can see that a ReLU or ReLU6 in front changes nothing.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ExportError(f"a calibration range is not finite: [{low}, {high}]", "check the model's outputs for NaN")
    low, high = min(low, 0.0), max(high, 0.0)
    width = high - low
    if width == 0:
        return Scale(float(np.float32(1 / 255)), -128)
    step = np.float32(max(width / 255, SMALLEST))
    if float(step * np.float32(255)) > width > 255 * SMALLEST:
        step = np.nextafter(step, np.float32(0))
    zero_point = round(-128 - low / float(step))
    return Scale(float(step), min(max(zero_point, -128), 127))


def symmetric_scale(low: float, high: float) -> Scale:
    """The grid -127..127 with zero point 0 over the larger side of [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ExportError(f"a range of weights is not finite: [{low}, {high}]", "check the network's weights for NaN")
    largest = max(-low, high, 0.0)
    return Scale(float(np.float32(max(largest / WEIGHT_MAX, SMALLEST) if largest else 1 / WEIGHT_MAX)), 0)


def to_int8(values: NDArray[Any], scale: Scale) -> NDArray[np.int8]:
    """Values on the grid, rounded half to even and saturated: any shape."""
    steps = np.rint(values / np.float32(scale.scale)) + scale.zero_point
    quantized: NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
    return quantized


def weight_scales(weight: NDArray[Any], axis: int, least: NDArray[Any]) -> Floats:
    """One scale for each output channel.

    weight: float, any shape with `out` entries along `axis`. least: [out], lower bounds, such as those that keep the
    bias inside int32 (`least_scales`). A channel's scale comes from its largest surviving weight or, where that
    lowers the squared error over the surviving weights, from a clip below it; zeros add no error under any scale, so
    they never influence it. Returns [out] float32. ExportError if a weight is not finite.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float32)
    if not np.isfinite(rows).all():
        raise ExportError("a weight is not finite: a network with NaN or infinite weights cannot be quantized")
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scales = largest / np.float32(WEIGHT_MAX)
    floor = max(float(scales.max(initial=0.0)) * SMALLEST_SHARE, SMALLEST)
    scales = np.maximum(scales, np.float32(floor))
    full, lowest = scales, _squared_error(rows, scales)
    limit = lowest * (1 - WORTHWHILE)
    for clip in CLIPS:
        tried = np.maximum(full * np.float32(clip), np.float32(floor))
        error = _squared_error(rows, tried)
        better = (error < limit) & (error < lowest)
        scales, lowest = np.where(better, tried, scales), np.where(better, error, lowest)
    bounded: Floats = np.maximum(scales, least).astype(np.float32)
    return bounded


def _squared_error(rows: Floats, scales: Floats) -> Floats:
    """Sum over each row [out, n] of the squared difference that the grid with the row's scale makes."""
    steps = rows / scales[:, None]
    np.rint(steps, out=steps)
    np.clip(steps, -WEIGHT_MAX, WEIGHT_MAX, out=steps)
    steps *= scales[:, None]
    steps -= rows
    error: Floats = np.einsum("ij,ij->i", steps, steps)
    return error


def quantize_weight(weight: NDArray[Any], scales: Floats, axis: int) -> NDArray[np.int8]:
    """Weights on the grid of their channel, -127..127, in the weight's shape; a zero stays 0."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = np.rint(weight / scales.reshape(shape))
    quantized: NDArray[np.int8] = np.clip(steps, -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    return quantized


def least_scales(bias: NDArray[Any], input_scale: float) -> NDArray[np.float64]:
    """The smallest weight scales [out] with which |bias / (input_scale * scale)| stays below 2**30; bias: [out]."""
    if not np.isfinite(bias).all():
        raise ExportError("a bias is not finite: a network with NaN or infinite biases cannot be quantized")
    return np.abs(bias.astype(np.float64)) / input_scale / BIAS_MAX * (1 + 2.0**-20)


def quantize_bias(bias: NDArray[Any], input_scale: float, scales: Floats) -> tuple[NDArray[np.int32], Floats]:
    """The bias [out] as int32 and its scales input_scale * scales, float32 [out]: those of the accumulator."""
    product = np.float32(input_scale) * scales
    return np.rint(bias.astype(np.float64) / product.astype(np.float64)).astype(np.int32), product
