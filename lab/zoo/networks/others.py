"""Networks of points, pairs, graphs and coordinates."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise
from lab.zoo.layers import convolution, mlp


class Siamese(nn.Module):
    """How far two pictures are apart (Bromley et al. 1994): two of [n, 1, 32, 32] -> [n]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(1, 16, 3, 2),
            convolution(16, 32, 3, 2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 24),
        )

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """The distance of their embeddings."""
        return F.pairwise_distance(self.body(one), self.body(other))


def _shared(inputs: int, *widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv1d(inputs, width, 1), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers)


class Transform(nn.Module):
    """A matrix for each cloud (Jaderberg et al. 2015): [n, size, points] -> [n, size, size]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.body = size, _shared(size, 24, 48)
        self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, size * size))

    def forward(self, x: Tensor) -> Tensor:
        """Near the identity."""
        y: Tensor = self.head(self.body(x).max(2).values)
        return y.view(-1, self.size, self.size) + torch.eye(self.size)


class PointNet(nn.Module):
    """Points in any order (Qi et al. 2017): [n, 3, 64] -> [n, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.features = Transform(3), Transform(24)
        self.first, self.second = _shared(3, 24, 24), _shared(24, 48, 96)
        self.head = nn.Sequential(nn.Linear(96, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.3), nn.Linear(48, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Log probabilities."""
        x = torch.bmm(x.transpose(2, 1), self.entry(x)).transpose(2, 1)
        x = self.first(x)
        x = torch.bmm(x.transpose(2, 1), self.features(x)).transpose(2, 1)
        return F.log_softmax(self.head(torch.max(self.second(x), 2)[0]), 1)


class Neighbours(nn.Module):
    """Edges to the nearest points, as DGCNN has them (Wang et al. 2019): [n, 3, 32] -> [n, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.edges, self.head = convolution(6, 24), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        points = x.transpose(1, 2)
        squares = (points**2).sum(2)
        distances = squares[:, :, None] - 2 * points @ x + squares[:, None]
        nearest = distances.topk(5, dim=-1, largest=False).indices
        spread = points[:, None].expand(-1, 32, -1, -1)
        around = spread.gather(2, nearest[..., None].expand(-1, -1, -1, 3))
        centre = points[:, :, None].expand(-1, -1, 5, -1)
        edges = torch.cat([around - centre, centre], 3).permute(0, 3, 1, 2)
        y: Tensor = self.head(self.edges(edges).amax((2, 3)))
        return y


class Splines(nn.Module):
    """A Kolmogorov-Arnold layer, with Gaussian bumps for splines (Li 2024): [n, inputs] -> [n, outputs]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.base, self.spline = (
            nn.LayerNorm(inputs),
            nn.Linear(inputs, outputs),
            nn.Linear(inputs * 8, outputs, bias=False),
        )
        self.register_buffer("grid", torch.linspace(-2, 2, 8))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both."""
        bumps = torch.exp(-(((self.norm(x)[..., None] - self.get_buffer("grid")) / (4 / 7)) ** 2))
        y: Tensor = self.spline(bumps.flatten(1)) + self.base(F.silu(x))
        return y


class Fourier(nn.Module):
    """Sines of random directions before an MLP (Tancik et al. 2020): [n, 2] -> [n, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(2, 32) * 2)
        self.body = nn.Sequential(
            nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """A colour at each place."""
        angles = 2 * torch.pi * x @ self.get_buffer("directions")
        y: Tensor = self.body(torch.cat([torch.sin(angles), torch.cos(angles)], -1))
        return y


class Graph(nn.Module):
    """Graph convolutions with a dense adjacency (Kipf & Welling 2017): [n, 12, 12 + 6] -> [n, 3].

    The first twelve columns are the adjacency, the others the nodes' features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the nodes."""
        edges = (x[..., :12] > 0).float() + torch.eye(12)
        degrees = edges.sum(-1).clamp(min=1).pow(-0.5)
        edges = edges * degrees[:, :, None] * degrees[:, None]
        y = F.relu(edges @ self.first(x[..., 12:]))
        y = F.relu(edges @ self.second(y))
        out: Tensor = self.head(y.mean(1))
        return out


class Hyper(nn.Module):
    """Attention pooling over a set with a learned query and a sharp gate (Ilse et al. 2018): [n, 20, 16] -> [n, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.tanh, self.gate, self.score = (
            mlp(16, 32),
            nn.Linear(16, 24),
            nn.Linear(16, 24),
            nn.Linear(24, 1),
        )
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the bag."""
        y = self.body(x)
        weights = self.score(torch.tanh(self.tanh(y)) * torch.sigmoid(self.gate(y))).softmax(1)
        out: Tensor = self.head(torch.bmm(weights.transpose(1, 2), y).squeeze(1))
        return out


NETWORKS: dict[str, Callable[[], Entry]] = {
    "siamese": lambda: Entry(Siamese(), (noise(1, 32, 32), noise(1, 32, 32))),
    "pointnet": lambda: Entry(PointNet(), (noise(3, 64),)),
    "dgcnn": lambda: Entry(Neighbours(), (noise(3, 32),)),
    "kan": lambda: Entry(nn.Sequential(Splines(6, 16), Splines(16, 3)), (noise(6),)),
    "fourier-features": lambda: Entry(Fourier(), (noise(2) * 0.5,)),
    "graph-convolution": lambda: Entry(Graph(), (noise(12, 18),)),
    "instance-pooling": lambda: Entry(Hyper(), (noise(20, 16),)),
}
