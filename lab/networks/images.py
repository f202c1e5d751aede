"""Convolutional networks for images of 224x224 besides those that `lab kernels` times by default."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Inverted, convolution, head


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 beside a shortcut, four times as wide at both ends (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *convolution(inputs, width, 1, activation=nn.ReLU()),
            *convolution(width, width, 3, stride, nn.ReLU()),
            *convolution(width, outputs, 1),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, 4 * width, H / stride, W / stride]."""
        return F.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """ResNet-50 for 224x224, its strides in the 3x3 layers."""
    layers, channels = [*convolution(3, 64, 7, 2, nn.ReLU()), nn.MaxPool2d(3, 2, 1)], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(count):
            layers.append(Bottleneck(channels, width, 1 if block else stride))
            channels = 4 * width
    return nn.Sequential(*layers, *head(channels, 1000))


def mobilenetv2() -> nn.Module:
    """MobileNetV2 1.0 for 224x224 (Sandler et al. 2018)."""
    layers, channels = convolution(3, 32, 3, 2, nn.ReLU6()), 16
    layers += [*convolution(32, 32, 3, 1, nn.ReLU6(), groups=32), *convolution(32, 16, 1)]
    plan = ((6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, outputs, count, stride in plan:
        for block in range(count):
            layers.append(Inverted(channels, outputs, 3, 1 if block else stride, factor))
            channels = outputs
    return nn.Sequential(*layers, *convolution(channels, 1280, 1, activation=nn.ReLU6()), *head(1280, 1000))
