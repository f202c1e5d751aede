"""Convolutions in groups and transposed ones, as the sparse kernels of plain convolutions run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from edgeprune.export.calibrate import calibrate
from edgeprune.export.certificate import read_weights
from edgeprune.export.quantize import quantize
from edgeprune.export.sparse import rewrite, stock
from edgeprune.export.tracing import Traced, trace
from edgeprune.export.unfolded import Frames, Groups, Phases
from tests.export.sparse_graphs import Eager, run_library, run_stock


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(groups=st.integers(1, 5), sizes=st.tuples(*[st.integers(1, 3)] * 4), seed=st.integers(0, 99))
def test_groups_are_blocks_of_a_weight_of_all_channels(groups: int, sizes: tuple[int, ...], seed: int) -> None:
    outputs, inputs, height, width = sizes
    weight, folded = array(seed, groups * outputs, inputs, height, width), Groups(groups)
    whole = folded.fold(weight)
    assert whole.shape == (groups * outputs, groups * inputs, height, width)
    assert np.array_equal(folded.unfold(whole), weight) and np.count_nonzero(whole) == np.count_nonzero(weight)
    x = torch.from_numpy(array(seed + 1, 2, groups * inputs, height + 2, width + 1))
    expected = F.conv2d(x, torch.from_numpy(weight), groups=groups)
    torch.testing.assert_close(F.conv2d(x, torch.from_numpy(whole)), expected, rtol=1e-4, atol=1e-4)


@given(
    kernel=st.tuples(st.integers(2, 5), st.integers(2, 5)), stride=st.integers(2, 3), seed=st.integers(0, 99),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), extra=st.integers(0, 1),
)  # fmt: skip
def test_phases_side_by_side_are_the_transposed_convolution(
    kernel: tuple[int, int], stride: int, seed: int, padding: tuple[int, int], extra: int
) -> None:
    x, weight = torch.from_numpy(array(seed, 1, 3, 5, 4)), array(seed + 1, 3, 2, *kernel)
    assume(min(x.shape[2:]) * stride > 2 * max(padding) + stride)
    expected = F.conv_transpose2d(
        x, torch.from_numpy(weight), stride=stride, padding=padding, output_padding=(extra, extra)
    )
    phases = Phases(kernel, stride, padding)
    phased = phases.fold(weight)
    assert np.array_equal(phases.unfold(phased), weight) and np.count_nonzero(phased) == np.count_nonzero(weight)
    sizes = [-(-size // stride) for size in expected.shape[2:]]
    wide = zip(phases.before, sizes, phases.window, x.shape[2:])
    pads = [(begin, count - 1 + size - begin - own) for begin, count, size, own in wide]
    y = F.conv2d(F.pad(x, (*pads[1], *pads[0])), torch.from_numpy(phased))
    y = y.view(1, stride, stride, 2, *sizes).permute(0, 3, 4, 1, 5, 2).reshape(1, 2, *(stride * size for size in sizes))
    torch.testing.assert_close(y[..., : expected.shape[2], : expected.shape[3]], expected, rtol=1e-4, atol=1e-4)


@given(
    sizes=st.tuples(*[st.integers(1, 3)] * 5), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)), seed=st.integers(0, 99),
)  # fmt: skip
def test_frames_behind_each_other_are_the_convolution_over_volumes(
    sizes: tuple[int, ...], stride: int, dilation: int, pads: tuple[int, int], seed: int
) -> None:
    outputs, inputs, *kernel = sizes
    weight, x = array(seed, outputs, inputs, *kernel), torch.from_numpy(array(seed + 1, 2, inputs, 5, 4, 4))
    frames = Frames(kernel[0], stride, dilation, pads)
    whole = frames.fold(weight)
    assert whole.shape == (outputs, kernel[0] * inputs, *kernel[1:]) and np.array_equal(frames.unfold(whole), weight)
    padded = F.pad(x, (0, 0, 0, 0, *pads))
    images = padded.transpose(1, 2)[:, frames.places(5)].flatten(2, 3)
    expected = F.conv3d(padded, torch.from_numpy(weight), stride=(stride, 1, 1), dilation=(dilation, 1, 1))
    y = torch.stack([F.conv2d(image, torch.from_numpy(whole)) for image in images])
    torch.testing.assert_close(y.transpose(1, 2), expected, rtol=1e-4, atol=1e-4)


def network(groups: int, up: dict[str, Any], seed: int) -> tuple[Traced, dict[str, np.ndarray]]:
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(3, 4 * groups, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4 * groups, 8 * groups, 3, padding=1, groups=groups), nn.ReLU(),
        nn.ConvTranspose2d(8 * groups, 6, **up), nn.ReLU6(), nn.Conv2d(6, 4, 1),
    ]  # fmt: skip
    model = nn.Sequential(*layers).eval()
    masks = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            alive = torch.rand(parameter.shape) < 0.3
            parameter.data *= alive
            masks[name] = alive.numpy()
    return trace(model, torch.randn(2, 3, 7, 6), masks), masks


UPS = [
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "bias": False},
    {"kernel_size": (3, 5), "stride": 3, "padding": (0, 1)},
]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@settings(max_examples=3, phases=(Phase.generate,))
@given(groups=st.integers(2, 4), up=st.sampled_from(UPS), seed=st.integers(0, 99))
def test_a_network_runs_them_sparse_and_the_certificate_reads_them_back(
    precision: str, groups: int, up: dict[str, Any], seed: int
) -> None:
    traced, masks = network(groups, up, seed)
    x = array(seed, 4, 3, 7, 6)
    graph = traced.graph if precision == "fp32" else quantize(traced.graph, calibrate(traced.graph, x, "minmax"))
    done = rewrite(graph, Eager())
    kernels = {layer.name: layer.kernel for layer in done.layers}
    assert kernels["2"] == "sparse" and (kernels["4"] == "sparse") == (precision == "fp32")
    for mine, theirs in zip(run_library(done.model, x), run_stock(stock(graph).model, x), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 if precision == "fp32" else 1e-7)
    stored = read_weights(done.model.SerializeToString(), done.stored)
    for name, weight in traced.weights.items():
        read = weight.pick(stored[weight.initializer])
        assert read.shape == masks[name].shape and not read[~masks[name]].any()
        assert precision == "int8" or np.array_equal(read != 0, masks[name])
    shapes = {layer.name: layer.shape for layer in done.layers}
    assert shapes["2"] == (8 * groups, 4, 3, 3)


VOLUMES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "bias": False},
    {"kernel_size": (1, 3, 3), "stride": (2, 1, 1)},
    {"kernel_size": (2, 3, 2), "stride": (1, 2, 1), "dilation": (2, 1, 1), "padding": (2, 1, 0)},
]


@settings(max_examples=4, phases=(Phase.generate,))
@given(over=st.sampled_from(VOLUMES), seed=st.integers(0, 99))
def test_a_network_over_volumes_runs_sparse_and_the_certificate_reads_it_back(over: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    layers = [nn.Conv3d(3, 8, **over), nn.ReLU(), nn.Conv3d(8, 6, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    model, masks = nn.Sequential(*layers).eval(), {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            alive = torch.rand(parameter.shape) < 0.3
            parameter.data *= alive
            masks[name] = alive.numpy()
    traced = trace(model, torch.randn(2, 3, 5, 7, 6), masks)
    done = rewrite(traced.graph, Eager())
    assert {layer.name: layer.kernel for layer in done.layers} == {"0": "sparse", "2": "sparse"}
    x = array(seed, 4, 3, 5, 7, 6)
    for mine, theirs in zip(run_library(done.model, x), run_stock(stock(traced.graph).model, x), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    stored = read_weights(done.model.SerializeToString(), done.stored)
    for name, weight in traced.weights.items():
        assert np.array_equal(weight.pick(stored[weight.initializer]) != 0, masks[name])
