"""Networks made for phones: depthwise convolutions, inverted bottlenecks, gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lab.zoo.entry import Entry
from lab.zoo.layers import (
    Residual,
    SqueezeExcite,
    classifier,
    convolution,
    depthwise,
    inverted,
    pictures,
    separable,
    shuffled,
    stack,
)

SIDE = 64


def _mobilenet_v1() -> nn.Module:
    plan = ((16, 1, 1), (32, 2, 2), (64, 2, 2), (128, 3, 2), (256, 2, 2))
    return nn.Sequential(
        convolution(3, 8, 3, 2),
        stack(plan, 8, lambda inputs, outputs, stride: separable(inputs, outputs, 3, stride)),
        classifier(256),
    )


def _mobilenet_v2(factor: int = 6) -> nn.Module:
    plan = ((16, 2, 2), (24, 3, 2), (32, 2, 2), (48, 2, 1), (80, 2, 2))
    return nn.Sequential(
        convolution(3, 16, 3, 2, nn.ReLU6),
        inverted((16, 16, 8), 3, 1),
        stack(plan, 8, lambda inputs, outputs, stride: inverted((inputs, factor * inputs, outputs), 3, stride)),
        convolution(80, 256, activation=nn.ReLU6),
        nn.Dropout(0.2),
        classifier(256),
    )


# kernel, inner, outputs, gate, hard swish, stride (Howard et al. 2019, tables 1 and 2), halved.
V3_SMALL = (
    (3, 8, 8, True, False, 2), (3, 36, 12, False, False, 2), (3, 44, 12, False, False, 1), (5, 48, 20, True, True, 2),
    (5, 120, 20, True, True, 1), (5, 60, 24, True, True, 1), (5, 144, 48, True, True, 2), (5, 288, 48, True, True, 1),
)  # fmt: skip
V3_LARGE = (
    (3, 8, 8, False, False, 1), (3, 32, 12, False, False, 2), (3, 36, 12, False, False, 1), (5, 36, 20, True, False, 2),
    (5, 60, 20, True, False, 1), (3, 120, 40, False, True, 2), (3, 100, 40, False, True, 1),
    (3, 240, 56, True, True, 1),
    (5, 336, 80, True, True, 2), (5, 480, 80, True, True, 1),
)  # fmt: skip


def _mobilenet_v3(rows: Sequence[tuple[int, int, int, bool, bool, int]]) -> nn.Module:
    layers: list[nn.Module] = [convolution(3, 8, 3, 2, nn.Hardswish)]
    channels = 8
    for size, inner, outputs, gated, hard, stride in rows:
        gate = SqueezeExcite(inner, max(8, inner // 4), gate=nn.Hardsigmoid) if gated else None
        layers.append(inverted((channels, inner, outputs), size, stride, nn.Hardswish if hard else nn.ReLU, gate))
        channels = outputs
    layers.append(convolution(channels, 6 * channels, activation=nn.Hardswish))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6 * channels, 256), nn.Hardswish(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, *head, nn.Linear(256, 10))


class UniversalBottleneck(nn.Module):
    """An inverted bottleneck with a depthwise convolution before or inside or both (Qin et al. 2024)."""

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: tuple[int, int], factor: int = 4) -> None:
        super().__init__()
        first, inside = sizes
        inner = factor * inputs
        self.body = nn.Sequential(
            *([depthwise(inputs, first, 1 if inside else stride, None)] if first else []),
            convolution(inputs, inner),
            *([depthwise(inner, inside, stride)] if inside else []),
            convolution(inner, outputs, activation=None),
        )
        self.scale = nn.Parameter(torch.ones(outputs, 1, 1))
        self.joins = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        y: Tensor = self.body(x) * self.scale
        return x + y if self.joins else y


def _mobilenet_v4() -> nn.Module:
    rows = (
        (16, 24, 2, (5, 5)),
        (24, 24, 1, (0, 3)),
        (24, 24, 1, (3, 0)),
        (24, 48, 2, (3, 3)),
        (48, 48, 1, (5, 0)),
        (48, 48, 1, (0, 0)),
    )
    blocks = [UniversalBottleneck(*row) for row in rows]
    return nn.Sequential(
        convolution(3, 16, 3, 2), convolution(16, 32, 3, 2), convolution(32, 16), *blocks,
        convolution(48, 160), nn.AdaptiveAvgPool2d(1), convolution(160, 256), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def _efficientnet() -> nn.Module:
    # factor, outputs, blocks, stride, kernel (Tan & Le 2019, table 1), a third as wide.
    rows = (
        (1, 8, 1, 1, 3),
        (6, 8, 2, 2, 3),
        (6, 16, 2, 2, 5),
        (6, 24, 3, 2, 3),
        (6, 40, 3, 1, 5),
        (6, 64, 4, 2, 5),
        (6, 104, 1, 1, 3),
    )
    layers: list[nn.Module] = [convolution(3, 16, 3, 2, nn.SiLU)]
    channels = 16
    for factor, outputs, blocks, stride, size in rows:
        for block in range(blocks):
            inner = factor * channels
            gate = SqueezeExcite(inner, max(4, channels // 4), nn.SiLU)
            layers.append(inverted((channels, inner, outputs), size, 1 if block else stride, nn.SiLU, gate))
            channels = outputs
    return nn.Sequential(*layers, convolution(channels, 256, activation=nn.SiLU), nn.Dropout(0.2), classifier(256))


def _fused(inputs: int, outputs: int, stride: int) -> nn.Module:
    inner = 4 * inputs
    body = nn.Sequential(convolution(inputs, inner, 3, stride, nn.SiLU), convolution(inner, outputs, activation=None))
    return Residual(body) if stride == 1 and inputs == outputs else body


def _efficientnet_v2() -> nn.Module:
    def gated(inputs: int, outputs: int, stride: int) -> nn.Module:
        inner = 4 * inputs
        return inverted((inputs, inner, outputs), 3, stride, nn.SiLU, SqueezeExcite(inner, inputs // 4, nn.SiLU))

    return nn.Sequential(
        convolution(3, 16, 3, 2, nn.SiLU),
        stack(((16, 1, 1), (24, 2, 2), (32, 2, 2)), 16, _fused),
        stack(((48, 2, 2), (64, 2, 1), (96, 2, 2)), 32, gated),
        convolution(96, 256, activation=nn.SiLU),
        classifier(256),
    )


def _mnasnet() -> nn.Module:
    # factor, outputs, blocks, stride, kernel, gate (Tan et al. 2019, figure 7), halved.
    rows = (
        (6, 12, 2, 2, 3, False),
        (3, 20, 3, 2, 5, True),
        (6, 40, 2, 2, 3, False),
        (6, 56, 2, 1, 3, True),
        (6, 80, 2, 2, 5, True),
    )
    layers: list[nn.Module] = [convolution(3, 16, 3, 2), depthwise(16), convolution(16, 8, activation=None)]
    channels = 8
    for factor, outputs, blocks, stride, size, gated in rows:
        for block in range(blocks):
            inner = factor * channels
            gate = SqueezeExcite(inner, max(4, channels // 4)) if gated else None
            layers.append(inverted((channels, inner, outputs), size, 1 if block else stride, nn.ReLU, gate))
            channels = outputs
    return nn.Sequential(*layers, convolution(80, 256), classifier(256))


class Ghost(nn.Module):
    """Half of the channels by a convolution, the others by a cheap one of the first (Han et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, active: bool) -> None:
        super().__init__()
        self.outputs, half = outputs, (outputs + 1) // 2
        self.first = convolution(inputs, half, activation=nn.ReLU if active else None)
        self.cheap = depthwise(half, activation=nn.ReLU if active else None)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H, W]."""
        first = self.first(x)
        return torch.cat([first, self.cheap(first)], 1)[:, : self.outputs]


def _ghost_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    inner = 3 * inputs
    strided = [depthwise(inner, 3, stride, None)] if stride > 1 else []
    gate = SqueezeExcite(inner, inner // 4, gate=nn.Hardsigmoid)
    body = nn.Sequential(Ghost(inputs, inner, True), *strided, gate, Ghost(inner, outputs, False))
    if stride == 1 and inputs == outputs:
        return Residual(body)
    return Residual(
        body, nn.Sequential(depthwise(inputs, 3, stride, None), convolution(inputs, outputs, activation=None))
    )


def _ghostnet() -> nn.Module:
    plan = ((8, 1, 1), (13, 2, 2), (20, 2, 2), (40, 3, 2), (80, 2, 2))
    return nn.Sequential(convolution(3, 8, 3, 2), stack(plan, 8, _ghost_block), convolution(80, 256), classifier(256))


class Shuffle(nn.Module):
    """Half of the channels through a branch, both halves shuffled (Ma et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        start = inputs if stride > 1 else half
        self.branch = nn.Sequential(convolution(start, half), depthwise(half, 3, stride, None), convolution(half, half))
        self.other = (
            nn.Sequential(depthwise(inputs, 3, stride, None), convolution(inputs, half)) if stride > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        kept, work = (self.other(x), x) if self.other is not None else x.chunk(2, 1)
        return shuffled(torch.cat([kept, self.branch(work)], 1), 2)


def _shufflenet() -> nn.Module:
    stages = stack(((48, 3, 2), (96, 4, 2), (192, 2, 2)), 24, Shuffle)
    return nn.Sequential(
        convolution(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1), stages, convolution(192, 256), classifier(256)
    )


def _of(make: Callable[[], nn.Module]) -> Callable[[], Entry]:
    return lambda: Entry(make(), (pictures(3, SIDE, SIDE),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "mobilenet-v1": _of(_mobilenet_v1),
    "mobilenet-v2": _of(_mobilenet_v2),
    "mobilenet-v3-small": _of(lambda: _mobilenet_v3(V3_SMALL)),
    "mobilenet-v3-large": _of(lambda: _mobilenet_v3(V3_LARGE)),
    "mobilenet-v4": _of(_mobilenet_v4),
    "efficientnet-b0": _of(_efficientnet),
    "efficientnet-v2": _of(_efficientnet_v2),
    "mnasnet": _of(_mnasnet),
    "ghostnet": _of(_ghostnet),
    "shufflenet-v2": _of(_shufflenet),
}
