"""What the networks are put together from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016), of any kernel size and stride."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*convolution(inputs, outputs, size, stride, nn.ReLU()))
        self.second = nn.Sequential(*convolution(outputs, outputs, size))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class Inverted(nn.Module):
    """Wider, depthwise, narrower again, without an activation at the end (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, factor: int) -> None:
        super().__init__()
        width = inputs * factor
        self.body = nn.Sequential(
            *convolution(inputs, width, 1, activation=nn.ReLU6()),
            *convolution(width, width, size, stride, nn.ReLU6(), groups=width),
            *convolution(width, outputs, 1),
        )
        self.joins = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        y: Tensor = self.body(x)
        return x + y if self.joins else y


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): a factor for each channel from the means of all."""

    def __init__(self, channels: int, inside: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        layers = [nn.Conv2d(channels, inside, 1), activation, nn.Conv2d(inside, channels, 1), gate]
        self.factors = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same."""
        y: Tensor = x * self.factors(x)
        return y


class Mobile(nn.Module):
    """Wider (if at all), depthwise, gated, narrower (Howard et al. 2019; Tan and Le 2019), of any activation."""

    def __init__(
        self, sizes: tuple[int, int, int], size: int, stride: int, activation: nn.Module, gate: nn.Module | None
    ) -> None:
        super().__init__()
        inputs, width, outputs = sizes
        self.body = nn.Sequential(
            *(convolution(inputs, width, 1, activation=activation) if width != inputs else []),
            *convolution(width, width, size, stride, activation, groups=width),
            *([gate] if gate else []),
            *convolution(width, outputs, 1),
        )
        self.joins = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H / stride, W / stride]."""
        y: Tensor = self.body(x)
        return x + y if self.joins else y


class Bottleneck(nn.Module):
    """Narrow, 3x3, wide again beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *convolution(inputs, width, 1, activation=nn.ReLU()),
            *convolution(width, width, 3, stride, nn.ReLU()),
            *convolution(width, outputs, 1),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, 4 * width, H / stride, W / stride]."""
        return F.relu(self.body(x) + self.shortcut(x))


def convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, activation: nn.Module | None = None, groups: int = 1
) -> list[nn.Module]:
    """Convolution, batch norm and an activation, if any."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), *([activation] if activation else [])]


def head(inputs: int, classes: int) -> list[nn.Module]:
    """Mean over space and a linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
