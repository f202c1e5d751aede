"""Detectors with decoded heads, one and two stages apart from non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry
from lab.zoo.layers import Residual, convolution, pictures, separable

CLASSES = 4


class Csp(nn.Module):
    """Part of the channels through bottlenecks, joined again, as C3 of YOLOv5 (Wang et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, blocks: int = 1, joins: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.one, self.two = (convolution(inputs, half, activation=nn.SiLU) for _ in range(2))
        body = [
            nn.Sequential(convolution(half, half, 1, 1, nn.SiLU), convolution(half, half, 3, 1, nn.SiLU))
            for _ in range(blocks)
        ]
        self.body = nn.Sequential(*(Residual(block) if joins else block for block in body))
        self.last = convolution(outputs, outputs, activation=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, H, W] -> [n, outputs, H, W]."""
        y: Tensor = self.last(torch.cat((self.body(self.one(x)), self.two(x)), 1))
        return y


class FastPyramidPooling(nn.Module):
    """SPPF of YOLOv5: max pooling three times in a row, all joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels // 2, activation=nn.SiLU)
        self.last = convolution(2 * channels, channels, activation=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W] -> the same shape."""
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class Neck(nn.Module):
    """Backbone and path aggregation: [n, 3, H, W] -> maps of 32, 64 and 96 channels at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()

        def down(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(convolution(inputs, outputs, 3, 2, nn.SiLU), Csp(outputs, outputs))

        self.stem = nn.Sequential(convolution(3, 12, 3, 2, nn.SiLU), down(12, 24))
        self.downs = nn.ModuleList((down(24, 32), down(32, 64), nn.Sequential(down(64, 96), FastPyramidPooling(96))))
        self.points = nn.ModuleList((convolution(96, 64, activation=nn.SiLU), convolution(64, 32, activation=nn.SiLU)))
        self.ups = nn.ModuleList((Csp(128, 64, joins=False), Csp(64, 32, joins=False)))
        self.strides = nn.ModuleList((convolution(32, 32, 3, 2, nn.SiLU), convolution(64, 64, 3, 2, nn.SiLU)))
        self.joins = nn.ModuleList((Csp(64, 64, joins=False), Csp(128, 96, joins=False)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """From fine to coarse."""
        x = self.stem(x)
        levels = []
        for down in self.downs:
            x = down(x)
            levels.append(x)
        middle = self.points[0](levels[2])
        x = self.ups[0](torch.cat([F.interpolate(middle, scale_factor=2), levels[1]], 1))
        fine = self.points[1](x)
        outputs = [self.ups[1](torch.cat([F.interpolate(fine, scale_factor=2), levels[0]], 1))]
        for stride, join, other in zip(self.strides, self.joins, (fine, middle)):
            outputs.append(join(torch.cat([stride(outputs[-1]), other], 1)))
        return outputs


def grid_of(x: Tensor) -> Tensor:
    """Places of a map [n, c, H, W]: [H, W, 2], column and row."""
    rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    return torch.stack((columns, rows), -1).float()


class YoloV5(nn.Module):
    """Three anchors at each place, decoded to pixels: [n, 3, 64, 64] -> [n, 252, 5 + classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = Neck()
        self.heads = nn.ModuleList(nn.Conv2d(channels, 3 * (5 + CLASSES), 1) for channels in (32, 64, 96))
        self.register_buffer(
            "anchors",
            torch.tensor([10.0, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326]).view(
                3, 1, 3, 1, 1, 2
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x, y, width and height in pixels, objectness, classes."""
        found = []
        for level, (head, y) in enumerate(zip(self.heads, self.neck(x))):
            y = head(y)
            count, _, height, width = y.shape
            y = y.view(count, 3, 5 + CLASSES, height, width).permute(0, 1, 3, 4, 2).contiguous()
            place, size, score = y.sigmoid().split((2, 2, CLASSES + 1), 4)
            place = (place * 2 + grid_of(torch.zeros(1, 1, height, width)) - 0.5) * (8 << level)
            size = (size * 2) ** 2 * self.get_buffer("anchors")[level]
            found.append(torch.cat((place, size, score), 4).view(count, 3 * height * width, 5 + CLASSES))
        return torch.cat(found, 1)


class DecoupledHead(nn.Module):
    """Boxes and classes by branches of their own (Ge et al. 2021): [n, inputs, H, W] -> [n, 5 + classes, H, W]."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.stem = convolution(inputs, 32, activation=nn.SiLU)
        self.boxes, self.classes = (
            nn.Sequential(*[convolution(32, 32, 3, 1, nn.SiLU) for _ in range(2)]) for _ in range(2)
        )
        self.box, self.object, self.label = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 1, 1), nn.Conv2d(32, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Box, objectness, classes."""
        x = self.stem(x)
        boxes = self.boxes(x)
        return torch.cat([self.box(boxes), self.object(boxes).sigmoid(), self.label(self.classes(x)).sigmoid()], 1)


class YoloX(nn.Module):
    """Without anchors: [n, 3, 64, 64] -> [n, 84, 5 + classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.neck, self.heads = Neck(), nn.ModuleList(DecoupledHead(channels) for channels in (32, 64, 96))

    def forward(self, x: Tensor) -> Tensor:
        """Centre, width and height in pixels, objectness, classes."""
        maps = [head(level) for head, level in zip(self.heads, self.neck(x))]
        flat = torch.cat([level.flatten(2) for level in maps], 2).permute(0, 2, 1)
        grids = torch.cat([grid_of(level).reshape(1, -1, 2) for level in maps], 1)
        strides = torch.cat(
            [torch.full((1, level.shape[2] * level.shape[3], 1), 8.0 * 2**index) for index, level in enumerate(maps)], 1
        )
        centres, sizes = (flat[..., :2] + grids) * strides, torch.exp(flat[..., 2:4]) * strides
        return torch.cat([centres, sizes, flat[..., 4:]], -1)


class YoloV8Head(nn.Module):
    """Distances to the box's sides as distributions over 16 bins (Li et al. 2020), decoded: [n, 4 + classes, 84]."""

    def __init__(self) -> None:
        super().__init__()
        self.neck = Neck()
        self.boxes = nn.ModuleList(nn.Conv2d(channels, 64, 1) for channels in (32, 64, 96))
        self.labels = nn.ModuleList(nn.Conv2d(channels, CLASSES, 1) for channels in (32, 64, 96))
        self.bins = nn.Conv2d(16, 1, 1, bias=False)
        self.bins.weight.data = torch.arange(16.0).view(1, 16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Centre, size and classes of each place."""
        maps = [torch.cat((box(y), label(y)), 1) for y, box, label in zip(self.neck(x), self.boxes, self.labels)]
        count = x.shape[0]
        joined: Tensor = torch.cat([level.view(count, 64 + CLASSES, -1) for level in maps], 2)
        sides, scores = joined[:, :64], joined[:, 64:]
        sides = self.bins(sides.view(count, 4, 16, -1).transpose(2, 1).softmax(1)).view(count, 4, -1)
        points = torch.cat([grid_of(level).view(-1, 2) + 0.5 for level in maps]).T[None]
        strides = torch.cat(
            [torch.full((level.shape[2] * level.shape[3],), 8.0 * 2**index) for index, level in enumerate(maps)]
        )
        before, after = sides.chunk(2, 1)
        low, high = points - before, points + after
        return torch.cat((torch.cat(((low + high) / 2, high - low), 1) * strides, scores.sigmoid()), 1)


class Ssd(nn.Module):
    """Default boxes at three scales (Liu et al. 2016): [n, 3, 64, 64] -> boxes [n, 252, 4], classes [n, 252, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList((
            nn.Sequential(convolution(3, 16, 3, 2), separable(16, 32, stride=2), separable(32, 48, stride=2)),
            separable(48, 64, stride=2), separable(64, 96, stride=2),
        ))  # fmt: skip
        self.places = nn.ModuleList(nn.Conv2d(channels, 12, 3, padding=1) for channels in (48, 64, 96))
        self.labels = nn.ModuleList(nn.Conv2d(channels, 15, 3, padding=1) for channels in (48, 64, 96))
        self.register_buffer("priors", torch.rand(252, 4) * 0.5 + 0.25)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Corners, as shares of the image, and probabilities."""
        places, labels = [], []
        for stage, place, label in zip(self.stages, self.places, self.labels):
            x = stage(x)
            places.append(place(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
            labels.append(label(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 5))
        offsets, priors = torch.cat(places, 1), self.get_buffer("priors")
        centres = priors[:, :2] + offsets[..., :2] * 0.1 * priors[:, 2:]
        sizes = priors[:, 2:] * torch.exp(offsets[..., 2:] * 0.2)
        boxes = torch.cat((centres - sizes / 2, centres + sizes / 2), 2)
        return boxes.clamp(0, 1), F.softmax(torch.cat(labels, 1), -1)


class CenterNet(nn.Module):
    """Peaks of a heat map (Zhou et al. 2019): [n, 3, 64, 64] -> the ten best of each class, sizes and offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(3, 16, 3, 2), convolution(16, 32, 3, 2), convolution(32, 64, 3, 2))
        self.up = nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        heads = (nn.Sequential(convolution(32, 32, 3), nn.Conv2d(32, outputs, 1)) for outputs in (3, 2, 2))
        self.heat, self.size, self.offset = heads

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, 3, 10], [n, 2, 16, 16] and the same."""
        y = self.up(self.body(x))
        heat = self.heat(y).sigmoid()
        peaks = heat * (F.max_pool2d(heat, 3, 1, 1) == heat).float()
        return peaks.flatten(2).topk(10).values, self.size(y), self.offset(y).sigmoid()


class Scaled(nn.Module):
    """exp(scale x): distances to a box's sides."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.exp(x * self.scale)


class Fcos(nn.Module):
    """Classes, distances and centreness at each place of a pyramid (Tian et al. 2019), heads with GroupNorm shared."""

    def __init__(self) -> None:
        super().__init__()
        self.neck, self.laterals = Neck(), nn.ModuleList(nn.Conv2d(channels, 32, 1) for channels in (32, 64, 96))
        self.tower = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU())
        self.label, self.centre, self.box = (nn.Conv2d(32, outputs, 3, padding=1) for outputs in (CLASSES, 1, 4))
        self.scales = nn.ModuleList(Scaled() for _ in range(3))

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """Scores [n, 84, classes] and boxes [n, 84, 4]."""
        scores, boxes = [], []
        for level, (y, lateral, scale) in enumerate(zip(self.neck(x), self.laterals, self.scales)):
            y = self.tower(lateral(y))
            score = torch.sqrt(self.label(y).sigmoid() * self.centre(y).sigmoid())
            stride = 8 << level
            places = (grid_of(y).reshape(-1, 2) + 0.5) * stride
            sides = (scale(self.box(y)) * stride).flatten(2).transpose(1, 2)
            boxes.append(torch.cat([places - sides[..., :2], places + sides[..., 2:]], -1))
            scores.append(score.flatten(2).transpose(1, 2))
        return [torch.cat(scores, 1), torch.cat(boxes, 1)]


def _of(make: Callable[[], nn.Module]) -> Callable[[], Entry]:
    return lambda: Entry(make(), (pictures(3, 64, 64),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "yolo-v5": _of(YoloV5),
    "yolox": _of(YoloX),
    "yolo-v8": _of(YoloV8Head),
    "ssd": _of(Ssd),
    "centernet": _of(CenterNet),
    "fcos": _of(Fcos),
}
