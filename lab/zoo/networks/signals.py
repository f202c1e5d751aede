"""Networks of sounds and other signals in time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise
from lab.zoo.layers import Attention, Residual, classifier, convolution, mlp, separable


class Causal(nn.Module):
    """A dilated convolution that sees the past alone: [n, inputs, steps] -> [n, outputs, steps]."""

    def __init__(self, inputs: int, outputs: int, size: int, dilation: int) -> None:
        super().__init__()
        self.past = (size - 1) * dilation
        self.layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(inputs, outputs, size, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        """Padded at the left."""
        y: Tensor = self.layer(F.pad(x, (self.past, 0)))
        return y


def _tcn() -> nn.Module:
    """Temporal convolutional network (Bai et al. 2018)."""
    layers: list[nn.Module] = []
    channels = 8
    for level in range(4):
        body = [
            Causal(channels, 24, 3, 1 << level),
            nn.ReLU(),
            nn.Dropout(0.1),
            Causal(24, 24, 3, 1 << level),
            nn.ReLU(),
        ]
        layers.append(Residual(nn.Sequential(*body), nn.Conv1d(channels, 24, 1) if channels != 24 else None, nn.ReLU()))
        channels = 24
    return nn.Sequential(*layers, nn.Conv1d(24, 5, 1))


class Chomp(nn.Module):
    """Cuts the future off what was padded at both ends: [n, channels, steps + cut] -> [n, channels, steps]."""

    def __init__(self, cut: int) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        """Without the last steps."""
        return x[:, :, : -self.cut].contiguous()


def _chomping() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv1d(8, 16, 1)]
    for level in range(3):
        gap = 2 << level
        layers.append(
            Residual(nn.Sequential(nn.Conv1d(16, 16, 3, padding=gap, dilation=1 << level), Chomp(gap), nn.ELU()))
        )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4))


def _ds_cnn() -> nn.Module:
    """Keyword spotting on 10 coefficients of 49 frames (Zhang et al. 2017)."""
    stem = nn.Sequential(nn.Conv2d(1, 32, (10, 4), (2, 2), (5, 1), bias=False), nn.BatchNorm2d(32), nn.ReLU())
    return nn.Sequential(stem, *[separable(32, 32) for _ in range(4)], nn.Dropout(0.2), classifier(32, 12))


def _line(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv1d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm1d(outputs), nn.ReLU())


def _ecg() -> nn.Module:
    """Twelve leads through a residual network (Hannun et al. 2019)."""
    layers: list[nn.Module] = [_line(12, 24, 15, 2)]
    channels = 24
    for outputs in (24, 32, 48):
        body = nn.Sequential(_line(channels, outputs, 15), nn.Dropout(0.2), nn.Conv1d(outputs, outputs, 15, 2, 7))
        layers.append(Residual(body, nn.Sequential(nn.MaxPool1d(2), nn.Conv1d(channels, outputs, 1)), nn.ReLU()))
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 5))


def _m5() -> nn.Module:
    """Speech commands from the waveform (Dai et al. 2017)."""
    layers: list[nn.Module] = [nn.Conv1d(1, 32, 80, 16), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(4)]
    for inputs, outputs in ((32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv1d(inputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 35), nn.LogSoftmax(1))


class ConformerConvolution(nn.Module):
    """Pointwise, gated, depthwise, Swish, pointwise: [n, steps, width] -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.body = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1), nn.GLU(1), nn.Conv1d(width, width, 15, padding=7, groups=width),
            nn.BatchNorm1d(width), nn.SiLU(), nn.Conv1d(width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Along the steps."""
        y: Tensor = self.body(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return y


class Conformer(nn.Module):
    """One block (Gulati et al. 2020) between a start and a head: [n, 40, 32] -> [n, 40, 29]."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.head, self.last = nn.Linear(32, 48), nn.Linear(48, 29), nn.LayerNorm(48)
        self.first, self.second = (nn.Sequential(nn.LayerNorm(48), mlp(48, 192, nn.SiLU)) for _ in range(2))
        self.attention, self.convolution = nn.Sequential(nn.LayerNorm(48), Attention(48, 4)), ConformerConvolution(48)

    def forward(self, x: Tensor) -> Tensor:
        """Half steps around attention and convolution."""
        x = self.start(x)
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        x = x + 0.5 * self.second(x)
        y: Tensor = self.head(self.last(x))
        return y


class WaveNet(nn.Module):
    """Gated dilated convolutions with skips (van den Oord et al. 2016): [n, 1, 256] -> [n, 32, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.start = Causal(1, 16, 2, 1)
        self.gates = nn.ModuleList(Causal(16, 32, 2, 1 << level) for level in range(6))
        self.skips, self.around = (nn.ModuleList(nn.Conv1d(16, 16, 1) for _ in range(6)) for _ in range(2))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(16, 32, 1), nn.ReLU(), nn.Conv1d(32, 32, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each step's next value."""
        x = self.start(x)
        total = torch.zeros(())
        for gate, skip, around in zip(self.gates, self.skips, self.around):
            one, other = gate(x).chunk(2, 1)
            y = torch.tanh(one) * torch.sigmoid(other)
            total, x = total + skip(y), x + around(y)
        out: Tensor = self.head(total)
        return out


class NBeatsBlock(nn.Module):
    """What it explains of the past and says of the future (Oreshkin et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 12))
        steps = torch.arange(60) / 48
        powers = torch.stack([steps**power for power in range(3)] + [torch.sin(steps * k) for k in range(1, 4)])
        self.register_buffer("basis", powers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 48] -> [n, 48], [n, 12]."""
        back, ahead = self.body(x).split(6, -1)
        basis = self.get_buffer("basis")
        return back @ basis[:, :48], ahead @ basis[:, 48:]


class NBeats(nn.Module):
    """Blocks in a row, each on what is left: [n, 48] -> [n, 12]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(NBeatsBlock() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Scaled by the series' own spread, as forecasters do."""
        mean, spread = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
        left = (x - mean) / spread
        total = torch.zeros(())
        for block in self.blocks:
            back, ahead = block(left)
            left, total = left - back, total + ahead
        return total * spread + mean


class Spectrogram(nn.Module):
    """A spectrogram inside the network, as convolutions with sines: [n, 1024] -> [n, 12]."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.arange(128)[None] * torch.arange(33)[:, None] * (2 * torch.pi / 128)
        window = torch.hann_window(128)
        self.register_buffer("waves", torch.cat([torch.cos(angles), torch.sin(angles)])[:, None] * window)
        self.body = nn.Sequential(convolution(1, 16, 3, 2), separable(16, 32, stride=2), classifier(32, 12))

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of the power, normalised over each picture."""
        parts = F.conv1d(x[:, None], self.get_buffer("waves"), stride=32)
        real, imaginary = parts.chunk(2, 1)
        power = torch.log10(torch.clamp(real**2 + imaginary**2, min=1e-10))
        power = torch.maximum(power, power.amax((1, 2), keepdim=True) - 8.0)
        y: Tensor = self.body(((power + 4) / 4)[:, None])
        return y


NETWORKS: dict[str, Callable[[], Entry]] = {
    "tcn": lambda: Entry(_tcn(), (noise(8, 64),)),
    "tcn-chomp": lambda: Entry(_chomping(), (noise(8, 64),)),
    "ds-cnn": lambda: Entry(_ds_cnn(), (noise(1, 49, 10),)),
    "ecg-resnet": lambda: Entry(_ecg(), (noise(12, 256),)),
    "m5": lambda: Entry(_m5(), (noise(1, 2048),)),
    "conformer": lambda: Entry(Conformer(), (noise(40, 32),)),
    "wavenet": lambda: Entry(WaveNet(), (noise(1, 256),)),
    "n-beats": lambda: Entry(NBeats(), (noise(48),)),
    "log-spectrogram": lambda: Entry(Spectrogram(), (noise(1024),)),
}
