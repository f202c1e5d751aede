"""Linear transforms of fixed sizes as products with constants: DFT, and Col2Im as a transposed convolution."""

from __future__ import annotations

import numpy as np

from edgeprune.export.graph import OPEN_BATCH, Array, Graph, Node
from edgeprune.export.tflite.steps import Steps

LARGEST = 1 << 24  # numbers of a constant that takes the place of a transform


def dft(graph: Graph, node: Node) -> list[Node]:
    """DFT along one axis of [..., 1 or 2], real or complex, to [..., 2]: a product with cosines and sines."""
    shape = graph.shape(node.inputs[0])
    axis = _axis(graph, node) % len(shape)
    size, target = shape[axis], graph.shapes[node.output]
    if size % OPEN_BATCH == 0:
        raise node.fail("it transforms along the batch")
    inverse = bool(node.attributes.get("inverse", 0))
    if inverse and node.attributes.get("onesided", 0):
        raise node.fail("it is inverse and one-sided")
    length = int(graph.constants[node.inputs[1]].reshape(())) if node.input(1) in graph.constants else size
    if 2 * size * shape[-1] * target[axis] > LARGEST:
        raise node.fail(f"its length {length} takes a matrix of more than {LARGEST:,} numbers")
    steps = Steps(graph, node)
    order = (*(other for other in range(len(shape) - 1) if other != axis), axis, len(shape) - 1)
    turned = steps.transpose(node.inputs[0], order)
    rest = tuple(shape[other] for other in order[:-2])
    flat = steps.reshape(turned, (*rest, size * shape[-1]))
    matrix = steps.constant("matrix", _matrix(size, shape[-1], target[axis], length, inverse))
    product = steps.add("MatMul", (flat, matrix), (*rest, 2 * target[axis]))
    whole = steps.reshape(product, (*rest, target[axis], 2))
    return steps.finish(steps.transpose(whole, tuple(int(place) for place in np.argsort(order))))


def _axis(graph: Graph, node: Node) -> int:
    """An attribute until opset 19, an input since then."""
    if node.input(2):
        if node.input(2) not in graph.constants:
            raise node.fail("its axis is not constant")
        return int(graph.constants[node.input(2)].reshape(()))
    newest = max((entry.version for entry in graph.model.opset_import if not entry.domain), default=1)
    return int(node.attributes.get("axis", 1 if newest < 20 else -2))


def _matrix(size: int, parts: int, wanted: int, length: int, inverse: bool) -> Array:
    """[size * parts, wanted * 2]: what each number of the input adds to each of the output; what lies behind the
    transform's length adds nothing."""
    turns = np.outer(np.arange(size), np.arange(wanted)) % length / length
    waves = np.exp((2j if inverse else -2j) * np.pi * turns) / (length if inverse else 1)
    waves[length:] = 0
    real = np.stack([waves.real, waves.imag], -1)
    both = np.stack([real, np.stack([-waves.imag, waves.real], -1)], 1)
    return np.ascontiguousarray(both[:, :parts].reshape(size * parts, 2 * wanted).astype(np.float32))


def col2im(graph: Graph, node: Node) -> list[Node]:
    """Col2Im, [n, channels * block, blocks] -> [n, channels, ...]: each channel by itself is what a transposed
    convolution makes of its blocks, whose kernel puts each number of a block in its place."""
    if any(node.inputs[index] not in graph.constants for index in (1, 2)):
        raise node.fail("the sizes of its image and blocks are not constant")
    image, block = ([int(size) for size in graph.constants[name].reshape(-1)] for name in node.inputs[1:3])
    spatial, taps = len(image), int(np.prod(block))
    strides, dilations = (list(node.attributes.get(name) or [1] * spatial) for name in ("strides", "dilations"))
    pads = list(node.attributes.get("pads") or [0] * 2 * spatial)
    begin = pads[:spatial]
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(block, dilations)]
    padded = [size + pads[axis] + pads[axis + spatial] for axis, size in enumerate(image)]
    counts = [(size - own) // step + 1 for size, own, step in zip(padded, reach, strides)]
    ends = [(count - 1) * step + own - first for count, step, own, first in zip(counts, strides, reach, begin)]
    reached = [min(size, end) for size, end in zip(image, ends)]
    left = [size - own for size, own in zip(image, reached)]  # behind the last block
    steps, target = Steps(graph, node), graph.shapes[node.output]
    rows = target[0] * target[1]
    places = steps.reshape(node.inputs[0], (rows, taps, *counts))
    kernel = steps.constant("kernel", np.eye(taps, dtype=np.float32).reshape(taps, 1, *block))
    cut = [*begin, *(end - own for end, own in zip(ends, reached))]
    attributes = {"strides": strides, "dilations": dilations, "pads": cut, "kernel_shape": block}
    summed = steps.add("ConvTranspose", (places, kernel), (rows, 1, *reached), **attributes)
    if any(left):
        zeros = steps.constant("zeros", np.array([0] * (spatial + 4) + left, np.int64))
        summed = steps.add("Pad", (summed, zeros), (rows, 1, *image))
    return steps.finish(steps.reshape(summed, target))
