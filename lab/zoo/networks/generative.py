"""Networks that give pictures: autoencoders, super-resolution, style transfer, diffusion."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise, positive
from lab.zoo.layers import Residual, convolution


def _up(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def _autoencoder() -> nn.Module:
    down = [convolution(1, 12, 3, 2), convolution(12, 24, 3, 2), nn.Flatten(), nn.Linear(24 * 64, 32)]
    up = [nn.Linear(32, 24 * 64), nn.ReLU(), nn.Unflatten(1, (24, 8, 8)), _up(24, 12), nn.ConvTranspose2d(12, 1, 2, 2)]
    return nn.Sequential(*down, *up, nn.Sigmoid())


class Vae(nn.Module):
    """A picture, the mean and the log variance (Kingma & Welling 2014); in evaluation the mean is decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(convolution(1, 16, 3, 2), convolution(16, 32, 3, 2), nn.Flatten())
        self.mean, self.spread = nn.Linear(2048, 16), nn.Linear(2048, 16)
        self.up = nn.Sequential(
            nn.Linear(16, 2048), nn.ReLU(), nn.Unflatten(1, (32, 8, 8)), _up(32, 16), nn.ConvTranspose2d(16, 1, 4, 2, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, 1, 32, 32] -> the same shape, [n, 16], [n, 16]."""
        y = self.down(x)
        mean, spread = self.mean(y), self.spread(y)
        code = mean + torch.randn_like(mean) * torch.exp(spread / 2) if self.training else mean
        return torch.sigmoid(self.up(code)), mean, spread


def _espcn() -> nn.Module:
    """Three times as large by pixel shuffle (Shi et al. 2016)."""
    layers = [nn.Conv2d(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers, nn.Conv2d(16, 9, 3, padding=1), nn.PixelShuffle(3))


class SrResNet(nn.Module):
    """Residual blocks with PReLU, twice as large (Ledig et al. 2017): [n, 3, 24, 24] -> [n, 3, 48, 48]."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(3, 24, 9, padding=4), nn.PReLU())
        blocks = [
            Residual(nn.Sequential(convolution(24, 24, 3, 1, nn.PReLU), convolution(24, 24, 3, 1, None)))
            for _ in range(3)
        ]
        self.body = Residual(nn.Sequential(*blocks, convolution(24, 24, 3, 1, None)))
        self.up = nn.Sequential(
            nn.Conv2d(24, 96, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(), nn.Conv2d(24, 3, 9, padding=4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Added to the picture resized."""
        large = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        y: Tensor = large + self.up(self.body(self.start(x)))
        return y


class Fsrcnn(nn.Module):
    """Shrinking, mapping and a transposed convolution (Dong et al. 2016): [n, 1, 24, 24] -> [n, 1, 48, 48]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2), nn.PReLU(32), nn.Conv2d(32, 8, 1), nn.PReLU(8),
            nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 32, 1), nn.PReLU(32),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(32, 1, 9, 2, 4, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Clamped to a picture."""
        return torch.clamp(self.up(self.body(x)), 0.0, 1.0)


def _style() -> nn.Module:
    """Style transfer with instance norms and reflected borders (Johnson et al. 2016; Ulyanov et al. 2017)."""

    def layers(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, outputs, size, stride)
        return [nn.ReflectionPad2d(size // 2), layer, nn.InstanceNorm2d(outputs, affine=True)]

    def block() -> nn.Module:
        return Residual(nn.Sequential(*layers(32, 32, 3), nn.ReLU(), *layers(32, 32, 3)))

    return nn.Sequential(
        *layers(3, 16, 9), nn.ReLU(), *layers(16, 32, 3, 2), nn.ReLU(), block(), block(),
        nn.Upsample(scale_factor=2), *layers(32, 16, 3), nn.ReLU(),
        nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9), nn.Tanh(),
    )  # fmt: skip


class Generator(nn.Module):
    """DCGAN (Radford et al. 2016): [n, 32] -> [n, 3, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(32, 64, 4, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        for inputs, outputs in ((64, 32), (32, 16)):
            layers += [
                nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """A code as a picture of one pixel, made larger."""
        y: Tensor = self.body(x[:, :, None, None])
        return y


class Denoiser(nn.Module):
    """A step of a diffusion model (Ho et al. 2020): [n, 3, 32, 32], the last channel the time -> [n, 2, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.time = (
            nn.Conv2d(2, 24, 3, padding=1),
            nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 48)),
        )
        self.norm, self.first, self.second = (
            nn.GroupNorm(4, 24),
            nn.Conv2d(24, 48, 3, 2, 1),
            nn.Conv2d(48, 48, 3, padding=1),
        )
        self.inner, self.qkv, self.out = nn.GroupNorm(8, 48), nn.Conv2d(48, 144, 1), nn.Conv2d(48, 48, 1)
        self.last = nn.Conv2d(72, 2, 3, padding=1)
        self.register_buffer("rates", torch.exp(-torch.arange(8) * 0.8))

    def forward(self, x: Tensor) -> Tensor:
        """The noise in the first two channels."""
        angles = x[:, 2, 0, :1].abs() * 10 * self.get_buffer("rates")
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        start = self.start(x[:, :2])
        y = self.first(F.silu(self.norm(start))) + time[:, :, None, None]
        y = y + self.second(F.silu(y))
        count, channels, height, width = y.shape
        query, key, value = self.qkv(self.inner(y)).reshape(count, 3, 4, 12, height * width).unbind(1)
        weights = torch.einsum("bhci,bhcj->bhij", query * 12**-0.5, key).softmax(-1)
        mixed = torch.einsum("bhij,bhcj->bhci", weights, value).reshape(count, channels, height, width)
        y = y + self.out(mixed)
        out: Tensor = self.last(torch.cat([start, F.interpolate(y, scale_factor=2.0)], 1))
        return out


NETWORKS: dict[str, Callable[[], Entry]] = {
    "autoencoder": lambda: Entry(_autoencoder(), (positive(1, 32, 32),)),
    "vae": lambda: Entry(Vae(), (positive(1, 32, 32),)),
    "espcn": lambda: Entry(_espcn(), (positive(1, 24, 24),)),
    "srresnet": lambda: Entry(SrResNet(), (positive(3, 24, 24),)),
    "fsrcnn": lambda: Entry(Fsrcnn(), (positive(1, 24, 24),)),
    "style-transfer": lambda: Entry(_style(), (positive(3, 48, 48),)),
    "dcgan-generator": lambda: Entry(Generator(), (noise(32),)),
    "diffusion-unet": lambda: Entry(Denoiser(), (noise(3, 32, 32),)),
}
