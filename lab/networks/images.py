"""Networks for images that papers describe."""

from __future__ import annotations

from torch import nn

from edgeprune.tasks.networks import vgg16

from .blocks import Bottleneck, Gate, Mobile, Residual, convolution, head
from .detector import Yolo


def resnet18() -> nn.Module:
    """ResNet-18 in its CIFAR form: a 3x3 stem and no pooling behind it."""
    layers, channels = convolution(3, 64, 3, activation=nn.ReLU()), 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(channels, outputs, 3, stride), Residual(outputs, outputs, 3, 1)]
        channels = outputs
    return nn.Sequential(*layers, *head(512, 10))


def mobilenetv1() -> nn.Module:
    """MobileNetV1 1.0 for 224x224 (Howard et al. 2017)."""
    layers, channels = convolution(3, 32, 3, 2, nn.ReLU6()), 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in plan:
        layers += convolution(channels, channels, 3, stride, nn.ReLU6(), groups=channels)
        layers += convolution(channels, outputs, 1, activation=nn.ReLU6())
        channels = outputs
    return nn.Sequential(*layers, *head(1024, 1000))


def mobilenetv2() -> nn.Module:
    """MobileNetV2 1.0 for 224x224 (Sandler et al. 2018)."""
    layers, channels = convolution(3, 32, 3, 2, nn.ReLU6()), 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, outputs, count, stride in rows:
        for index in range(count):
            sizes = channels, factor * channels, outputs
            layers.append(Mobile(sizes, 3, 1 if index else stride, nn.ReLU6(), None))
            channels = outputs
    return nn.Sequential(*layers, *convolution(channels, 1280, 1, activation=nn.ReLU6()), *head(1280, 1000))


def mobilenetv3small() -> nn.Module:
    """MobileNetV3-small 1.0 for 224x224 (Howard et al. 2019)."""
    layers, channels = convolution(3, 16, 3, 2, nn.Hardswish()), 16
    rows = (
        (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1),
        (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 96, 1, 1, 2),
        (5, 576, 96, 1, 1, 1), (5, 576, 96, 1, 1, 1),
    )  # fmt: skip
    for size, width, outputs, gated, swishes, stride in rows:
        inside = (width // 4 + 4) // 8 * 8 or 8
        gate = Gate(width, inside, nn.ReLU(), nn.Hardsigmoid()) if gated else None
        activation = nn.Hardswish() if swishes else nn.ReLU()
        layers.append(Mobile((channels, width, outputs), size, stride, activation, gate))
        channels = outputs
    layers += convolution(channels, 576, 1, activation=nn.Hardswish())
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, 1000)]
    return nn.Sequential(*layers, *pooled)


def efficientnet() -> nn.Module:
    """EfficientNet-B0 for 224x224 (Tan and Le 2019)."""
    layers, channels = convolution(3, 32, 3, 2, nn.SiLU()), 32
    rows = (
        (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    )  # fmt: skip
    for factor, size, outputs, count, stride in rows:
        for index in range(count):
            width = factor * channels
            gate = Gate(width, channels // 4, nn.SiLU(), nn.Sigmoid())
            layers.append(Mobile((channels, width, outputs), size, 1 if index else stride, nn.SiLU(), gate))
            channels = outputs
    return nn.Sequential(*layers, *convolution(channels, 1280, 1, activation=nn.SiLU()), *head(1280, 1000))


def resnet50() -> nn.Module:
    """ResNet-50 for 224x224 (He et al. 2016)."""
    layers, channels = [*convolution(3, 64, 7, 2, nn.ReLU()), nn.MaxPool2d(3, 2, 1)], 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for index in range(count):
            layers.append(Bottleneck(channels, 64 << stage, 2 if stage and not index else 1))
            channels = 256 << stage
    return nn.Sequential(*layers, *head(channels, 1000))


# Name -> how it is made, and the side of its square input of three channels.
IMAGES = {
    "resnet18": (resnet18, 32),
    "vgg16": (vgg16, 32),
    "mobilenetv1": (mobilenetv1, 224),
    "mobilenetv2": (mobilenetv2, 224),
    "mobilenetv3small": (mobilenetv3small, 224),
    "efficientnet": (efficientnet, 224),
    "resnet50": (resnet50, 224),
    "yolo": (Yolo, 320),
}
