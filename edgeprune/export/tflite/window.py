"""The sliding window of a convolution or pooling, and which of the file format's two paddings equals it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.export.graph import Node, Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """All as (height, width); a 1-D window has height 1. size: of the input; steps: of the output; begin, end: padding
    before and behind, the end as far as the last window reaches."""

    size: Pair
    steps: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    begin: Pair
    end: Pair

    @property
    def reach(self) -> Pair:
        """Size of the dilated kernel."""
        height, width = ((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))
        return height, width

    @property
    def padding(self) -> str:
        """ "VALID" or "SAME" if that is exactly this padding, "" if the input has to be padded first."""
        if self.begin == (0, 0) and self.end == (0, 0):
            return "VALID"
        return "SAME" if all(map(self._is_same, range(2))) else ""

    def _is_same(self, axis: int) -> bool:
        size, steps, stride, reach = self.size[axis], self.steps[axis], self.stride[axis], self.reach[axis]
        total = (steps - 1) * stride + reach - size
        # Where rows or columns at the end are never read, the XNNPACK in tflite-runtime 2.14 and TensorFlow 2.21
        # takes the negative total for a huge padding and computes from zeros alone: no SAME there.
        return total >= 0 and steps == -(-size // stride) and self.begin[axis] == total // 2

    def counts(self, include_padding: bool, padded_end: Pair) -> NDArray[np.float32]:
        """How many elements an average is taken over, [height, width] of the output.

        include_padding: elements of the padding count, up to `padded_end` past the input (a window that reaches
        further, because the output's size was rounded up, counts only what is there).
        """
        along = []
        for axis in range(2):
            first, last = 0, self.size[axis]
            if include_padding:
                first, last = -self.begin[axis], last + padded_end[axis]
            starts = np.arange(self.steps[axis])[:, None] * self.stride[axis] - self.begin[axis]
            touched = starts + np.arange(self.kernel[axis]) * self.dilation[axis]
            along.append(((touched >= first) & (touched < last)).sum(axis=1))
        rows, columns = along
        return np.asarray(rows[:, None] * columns, dtype=np.float32)


def window(node: Node, kernel: Sequence[int], shape: Shape, output: Shape) -> Window:
    """The window of a Conv or pooling node. shape, output: ONNX shapes (N, C, spatial...)."""
    spatial = len(shape) - 2
    if spatial not in (1, 2):
        raise node.fail(f"it has {spatial} spatial dimensions, expected 1 or 2")
    size, steps = _pair(shape[2:], 1), _pair(output[2:], 1)
    kernel_2d = _pair(kernel, 1)
    stride = _pair(node.attributes.get("strides") or [1] * spatial, 1)
    dilation = _pair(node.attributes.get("dilations") or [1] * spatial, 1)
    begin, _ = padding_of(node, Window(size, steps, kernel_2d, stride, dilation, (0, 0), (0, 0)))
    reach = Window(size, steps, kernel_2d, stride, dilation, (0, 0), (0, 0)).reach
    end = tuple(max((steps[i] - 1) * stride[i] + reach[i] - size[i] - begin[i], 0) for i in range(2))
    if any((steps[i] - 1) * stride[i] >= size[i] + begin[i] for i in range(2)):
        # ONNX's shape inference counts such a window where sizes are rounded up, ONNX Runtime and PyTorch leave it out.
        raise node.fail("its last window begins past the input")
    return Window(size, steps, kernel_2d, stride, dilation, begin, (end[0], end[1]))


def padding_of(node: Node, plain: Window) -> tuple[Pair, Pair]:
    """Padding before and behind, as the node's attributes say it."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return (0, 0), (0, 0)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((plain.steps[i] - 1) * plain.stride[i] + plain.reach[i] - plain.size[i], 0) for i in range(2)]
        small, large = _pair([t // 2 for t in totals], 0), _pair([t - t // 2 for t in totals], 0)
        return (small, large) if automatic == "SAME_UPPER" else (large, small)
    pads = node.attributes.get("pads") or [0, 0]
    if min(pads) < 0:
        raise node.fail(f"negative padding {list(pads)}")
    half = len(pads) // 2
    return _pair(pads[:half], 0), _pair(pads[half:], 0)


def _pair(values: Sequence[int], filler: int) -> Pair:
    """(width,) -> (filler, width)."""
    height, width = values if len(values) == 2 else (filler, values[0])
    return int(height), int(width)
