"""The networks of the built-in tasks, initialised as in Frankle & Carbin 2019: Gaussian Glorot weights, zero biases.

Parameters are called after their layers (`conv1.weight`, `fc1.weight`, ...), the last one always `output`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them: [n, sizes[0]] -> [n, sizes[-1]]."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    _add_linear(layers, sizes)
    return _initialised(nn.Sequential(layers))


def lenet5() -> nn.Sequential:
    """The LeNet-5 with 431,080 parameters: 20 and 50 filters of 5x5 without padding, each with 2x2 max pooling, 500
    hidden units. [n, 1, 28, 28] -> [n, 10]."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (before, after) in enumerate(((1, 20), (20, 50)), start=1):
        layers[f"conv{number}"] = nn.Conv2d(before, after, 5)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        # After the pooling: the result is the same as before it, on a quarter of the values.
        layers[f"relu{number}"] = nn.ReLU()
    layers["flatten"] = nn.Flatten()
    _add_linear(layers, (800, 500, 10))
    return _initialised(nn.Sequential(layers))


def conv_n(depth: int) -> nn.Sequential:
    """Conv-2, Conv-4 or Conv-6 for `depth` 2, 4 or 6 (Frankle & Carbin 2019, figure 2): pairs of 3x3 convolutions with
    64, 128 and 256 filters, each pair with 2x2 max pooling, two hidden layers of 256. [n, 3, 32, 32] -> [n, 10]."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = 3, 32
    for number in range(1, depth + 1):
        width = 64 << ((number - 1) // 2)
        layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1)
        layers[f"relu{number}"] = nn.ReLU()
        channels = width
        if number % 2 == 0:
            layers[f"pool{number // 2}"] = nn.MaxPool2d(2)
            side //= 2
    layers["flatten"] = nn.Flatten()
    _add_linear(layers, (channels * side * side, 256, 256, 10))
    return _initialised(nn.Sequential(layers))


def vgg16() -> nn.Sequential:
    """VGG-16 for 32 x 32 images with batch norm and one linear layer. [n, 3, 32, 32] -> [n, 10]."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, number = 3, 0
    for stage, (width, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for _ in range(repeats):
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            channels = width
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    _add_linear(layers, (512, 10))
    return _initialised(nn.Sequential(layers))


def resnet20() -> nn.Sequential:
    """ResNet-20 (He et al. 2016, section 4.2): three stages of three residual blocks with 16, 32 and 64 filters; a 1x1
    convolution in the shortcut where the shape changes. [n, 3, 32, 32] -> [n, 10]."""
    from torch import nn

    class Residual(nn.Module):
        """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)), halving height and width if `stride` is 2."""

        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(after)
            self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(after)
            self.shortcut = nn.Sequential()
            if stride != 1 or before != after:
                shorten = nn.Conv2d(before, after, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(OrderedDict(conv=shorten, norm=nn.BatchNorm2d(after)))

        def forward(self, x: Tensor) -> Tensor:
            inner = nn.functional.relu(self.norm1(self.conv1(x)))
            return nn.functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))

    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False), norm1=nn.BatchNorm2d(16), relu1=nn.ReLU()
    )
    channels = 16
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            stride = 2 if stage > 1 and block == 1 else 1
            layers[f"stage{stage}_block{block}"] = Residual(channels, width, stride)
            channels = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    _add_linear(layers, (64, 10))
    return _initialised(nn.Sequential(layers))


def _add_linear(layers: OrderedDict[str, nn.Module], sizes: Sequence[int]) -> None:
    """Append fc1, relu_fc1, fc2, ... and output."""
    from torch import nn

    for number, (before, after) in enumerate(zip(sizes[:-2], sizes[1:-1]), start=1):
        layers[f"fc{number}"] = nn.Linear(before, after)
        layers[f"relu_fc{number}"] = nn.ReLU()
    layers["output"] = nn.Linear(sizes[-2], sizes[-1])


def _initialised(model: nn.Sequential) -> nn.Sequential:
    import torch
    from torch import nn

    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # Convolutions train half as long again on a CPU if the channels do not lie next to each other in memory.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
