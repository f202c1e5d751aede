"""Networks that join, split, shuffle and repeat, from PyTorch to the packed region: they never leave it between the
first layer and the last, and compute what the Q/DQ form does."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.export.graph import Graph
from edgeprune.export.quantize import quantize
from edgeprune.export.tracing import trace
from edgeprune.kernels import DOMAIN
from tests.export.forms import calibrate, pairs, rewrite
from tests.export.sparse_graphs import Eager
from tests.export.test_sparse_networks import steps_apart


def layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class DenseLayer(nn.Module):
    """Norm, activation and convolution of all that came before (Huang et al. 2017)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), layer(inputs, 2 * growth, 1), nn.Conv2d(2 * growth, growth, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def dense_net() -> nn.Module:
    layers, channels = [layer(3, 10)], 10  # not by fours: cells are put together anew
    for _ in range(2):
        for _ in range(2):
            layers.append(DenseLayer(channels, 6))
            channels += 6
        layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1), nn.AvgPool2d(2)]
        channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


class CrossStage(nn.Module):
    """Half of the channels goes past the bottlenecks (YOLO's C2f)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.first, self.inner = layer(channels, channels, 1), nn.Sequential(layer(half, half), layer(half, half))
        self.last = layer(3 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.first(x).chunk(2, 1)
        return self.last(torch.cat([past, through, through + self.inner(through)], 1))


class Detector(nn.Module):
    """Three stages, pools of growing reach (SPPF), one way up and two heads."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.one = nn.Sequential(layer(3, width, 3, 2), CrossStage(width))
        self.two = nn.Sequential(layer(width, 2 * width, 3, 2), CrossStage(2 * width))
        self.squeeze, self.pool, self.widen = (
            layer(2 * width, width, 1),
            nn.MaxPool2d(5, 1, 2),
            layer(4 * width, width, 1),
        )
        self.up, self.merge = nn.Upsample(scale_factor=2), CrossStage(2 * width)
        self.heads = nn.ModuleList([nn.Conv2d(2 * width, 6, 1), nn.Conv2d(width, 6, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one = self.one(x)
        pools = [self.squeeze(self.two(one))]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        deep = self.widen(torch.cat(pools, 1))
        return self.heads[0](self.merge(torch.cat([self.up(deep), one], 1))), self.heads[1](deep)


class ShuffleUnit(nn.Module):
    """Half of the channels passes, then the halves are shuffled (Ma et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(layer(half, half, 1), layer(half, half, groups=half), layer(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, self.body(right)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffle_net() -> nn.Module:
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))
    return nn.Sequential(layer(3, 12, 3, 2), nn.MaxPool2d(3, 2, 1), ShuffleUnit(12), ShuffleUnit(12), *last)


class UNet(nn.Module):
    """Down twice and up again beside what was there, with a frame that is padded and cut off."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.one, self.two, self.deep = layer(3, width), layer(width, 2 * width), layer(2 * width, 4 * width)
        self.up, self.last = layer(6 * width, 2 * width), layer(3 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = functional.pad(self.one(x), (0, 2, 2, 0))
        two = self.two(functional.max_pool2d(one, 2))
        deep = functional.interpolate(self.deep(functional.max_pool2d(two, 2)), size=two.shape[2:])
        up = functional.interpolate(self.up(torch.cat([deep, two], 1)), scale_factor=2)
        return self.head(self.last(torch.cat([up, one], 1))[:, :, 2:, :-2])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DenseNet": dense_net, "detector": Detector, "ShuffleNetV2": shuffle_net, "U-Net": UNet,
}  # fmt: skip


def settled(module: nn.Module) -> nn.Module:
    """With weights and statistics as after training."""
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, -1.5, 1.5)  # some turn their channel round
            nn.init.normal_(norm.bias, 0, 0.2)
    return module.eval()


@functools.cache
def quantized(name: str) -> tuple[Graph, Tensor]:
    """A network in int8, and the inputs that it was calibrated on."""
    x = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    graph = trace(settled(NETWORKS[name]()), x[:2], {}).graph
    return quantize(graph, calibrate(graph.model, x.numpy())), x


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("unsigned", [False, True])
def test_no_change_of_layout_is_left_inside(name: str, unsigned: bool) -> None:
    graph, x = quantized(name)
    done = rewrite(graph, Eager(), unsigned)
    kinds = Counter(node.op_type.removesuffix("S8") for node in done.model.graph.node)
    assert (kinds["QPack"], kinds["QUnpack"]) == (1, len(graph.outputs))
    between = {"QuantizeLinear", "DequantizeLinear", "Flatten"}
    assert {node.op_type for node in done.model.graph.node if node.domain != DOMAIN} <= between
    assert kinds["QuantizeLinear"] == 1
    for apart, most in steps_apart(pairs(graph, unsigned), done.model, x.numpy()):
        assert np.quantile(apart, 0.9) <= 2.001 and apart.max() <= most


def test_a_join_a_shuffle_and_its_halves_write_no_tensor_in_between() -> None:
    """One part for the layers of each unit is left, and the last join, which takes the other parts as they are."""
    graph, _ = quantized("ShuffleNetV2")
    kinds = Counter(node.op_type for node in rewrite(graph, Eager()).model.graph.node)
    assert kinds["QGather"] == 3
