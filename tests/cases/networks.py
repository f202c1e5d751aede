"""Small networks that users of such tools have, as tasks on random data: `edgeprune find networks.py:NAME`.

Nothing need be learned: two to ten steps. Each stands for a kind of fault that conversion, pruning or training once
had.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from edgeprune import Data, Recipe, Split, Task


def inputs(n, seed, *shape):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def flat(outputs):
    return [part for each in outputs for part in flat(each)] if isinstance(outputs, (tuple, list)) else [outputs]


def task(name, model, make, **options):
    """A fixed random teacher of the same architecture gives the targets; every output counts in loss and metric."""

    def split(n, seed):
        x = make(n, seed)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(99)
            y = torch.cat([part.float().flatten(1) for part in flat(model().eval()(x))], 1)
        return Split(x, y)

    def joined(outputs):
        return torch.cat([torch.as_tensor(part).float().flatten(1) for part in flat(outputs)], 1)

    def r2(outputs, y):
        y = torch.as_tensor(y)
        return float(1 - ((joined(outputs) - y) ** 2).mean() / (y.var() + 1e-9))

    fields = {
        "name": name, "model": model, "data": lambda folder: Data(split(64, 1), split(32, 2), split(32, 3)),
        "loss": lambda outputs, y: F.mse_loss(joined(outputs), y), "metric": r2, "metric_name": "r2",
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        "recipe": Recipe(iterations=10, batch_size=16, rate=0.5),
    }  # fmt: skip
    return Task(**{**fields, **options})


class Model(nn.Module):
    """Parts and a forward function of them."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run, self.part = run, nn.ModuleDict(parts)

    def forward(self, x):
        return self.run(self.part, x)


def conv(i, o, k=3, s=1, g=1):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), nn.ReLU())


# --- converted wrong, or not at all --------------------------------------------------------------------------------


def unsqueezed():
    """A waveform [n, 1024] that becomes a picture [n, 1, 1024, 1] inside, as pitch and wake-word networks do."""

    def run(part, x):
        x = F.relu(part["a"](F.pad(x[:, None, :, None], (0, 0, 31, 32))))
        return part["fc"](F.relu(part["b"](x)).mean((2, 3)))

    def model():
        return Model(run, a=nn.Conv2d(1, 64, (64, 1), (4, 1)), b=nn.Conv2d(64, 64, (9, 1)), fc=nn.Linear(64, 4))

    return task("unsqueezed", model, lambda n, seed: inputs(n, seed, 1024))


def variadic():
    """A forward that takes *inputs, as wrappers and decorators leave it."""

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

        def forward(self, *x):
            return self.inner(*x)

    return task("variadic", Wrapped, lambda n, seed: inputs(n, seed, 16))


def shuffle(x, groups=2):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleUnit(nn.Module):
    """Half of the channels through a branch, joined, shuffled; with stride 2 both halves are branches."""

    def __init__(self, i, o, stride):
        super().__init__()
        half, self.stride = o // 2, stride
        start = i if stride == 2 else half
        self.one = nn.Sequential(
            conv(start, half, 1), nn.Conv2d(half, half, 3, stride, 1, groups=half), conv(half, half, 1)
        )
        self.two = nn.Sequential(nn.Conv2d(i, i, 3, 2, 1, groups=i), conv(i, half, 1)) if stride == 2 else None

    def forward(self, x):
        if self.two is not None:
            return shuffle(torch.cat([self.two(x), self.one(x)], 1))
        keep, work = x.chunk(2, dim=1)
        return shuffle(torch.cat([keep, self.one(work)], 1))


def shuffled():
    """ShuffleNetV2 in small: one unit with stride, three without."""

    def model():
        units = [ShuffleUnit(8, 16, 2), *[ShuffleUnit(16, 16, 1) for _ in range(3)]]
        return nn.Sequential(conv(3, 8, 3, 2), *units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    return task("shuffled", model, lambda n, seed: inputs(n, seed, 3, 32, 32))


def detector():
    """Two scales, three anchors: view, permute, decode by slices, joined over scales."""

    def run(part, x):
        found, scales = [], []
        for name in "ab":
            x = part[name](x)
            scales.append(x)
        for head, x in zip("cd", scales):
            x = part[head](x)
            n, _, h, w = x.shape
            x = x.view(n, 3, 9, h, w).permute(0, 1, 3, 4, 2)
            x = torch.cat((x[..., :2].sigmoid() * 2, (x[..., 2:4].sigmoid() * 2) ** 2, x[..., 4:]), -1)
            found.append(x.reshape(n, -1, 9))
        return torch.cat(found, 1)

    def model():
        return Model(run, a=conv(3, 16, 3, 2), b=conv(16, 16, 3, 2), c=nn.Conv2d(16, 27, 1), d=nn.Conv2d(16, 27, 1))

    return task("detector", model, lambda n, seed: inputs(n, seed, 3, 64, 64))


def tied():
    """A word model whose output layer shares the embedding's weight."""

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.hidden, self.out = nn.Embedding(50, 32), nn.Linear(32, 32), nn.Linear(32, 50, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x):
            return self.out(F.relu(self.hidden(self.embed(x))).mean(1))

    return task(
        "tied", Words, lambda n, seed: torch.randint(0, 50, (n, 8), generator=torch.Generator().manual_seed(seed))
    )


def ceiling():
    """Pooling with ceil_mode where the plane is lower than the window."""

    def model():
        return nn.Sequential(
            nn.Conv2d(4, 16, 1), nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(16, 16, 1), nn.Flatten(), nn.Linear(64, 3)
        )

    return task("ceiling", model, lambda n, seed: inputs(n, seed, 4, 1, 8))


# --- pruned wrong ---------------------------------------------------------------------------------------------------


def heads():
    """Boxes and classes from one body, joined in one output: both heads are outputs (--pattern channel)."""

    def run(part, x):
        x = part["body"](x)
        return torch.cat([part["box"](x), torch.sigmoid(part["cls"](x))], 1).flatten(2)

    def model():
        return Model(
            run, body=nn.Sequential(conv(3, 16, 3, 2), conv(16, 16)), box=nn.Conv2d(16, 4, 1), cls=nn.Conv2d(16, 6, 1)
        )

    return task("heads", model, lambda n, seed: inputs(n, seed, 3, 16, 16))


def decoder():
    """An autoencoder: half of its weights are transposed convolutions, and its bottleneck is no output."""

    def model():
        down = [conv(3, 16, 3, 2), conv(16, 32, 3, 2), nn.Conv2d(32, 8, 1)]
        up = [
            nn.ConvTranspose2d(8, 32, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 2, 2),
            nn.ReLU(),
            nn.Conv2d(16, 3, 3, padding=1),
        ]
        return nn.Sequential(*down, *up)

    return task("decoder", model, lambda n, seed: inputs(n, seed, 3, 16, 16))


def weight_normed():
    """A causal network whose convolutions are parametrized by torch's weight norm."""
    norm = nn.utils.parametrizations.weight_norm

    def model():
        layers = []
        for i, o, d in ((2, 32, 1), (32, 32, 2), (32, 32, 4)):
            layers += [nn.ConstantPad1d((2 * d, 0), 0.0), norm(nn.Conv1d(i, o, 3, dilation=d)), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 3))

    return task("weight_normed", model, lambda n, seed: inputs(n, seed, 2, 64))


class Tamed(nn.Module):
    """A parametrization of one's own, which no tool folds before it is trained."""

    def forward(self, weight):
        return torch.tanh(weight)


def parametrized():
    """Layers whose weights are computed at each step from others that can be pruned."""

    def tamed(layer):
        nn.utils.parametrize.register_parametrization(layer, "weight", Tamed())
        return layer

    def model():
        return nn.Sequential(
            tamed(nn.Conv1d(2, 32, 5, 2)), nn.ReLU(), tamed(nn.ConvTranspose1d(32, 16, 3)), nn.ReLU(), nn.Flatten(),
            tamed(nn.Linear(16 * 32, 3)),
        )  # fmt: skip

    return task("parametrized", model, lambda n, seed: inputs(n, seed, 2, 64))


def residual():
    """A stream that three blocks write: scored one by one, its dead channels never coincide (--pattern channel)."""

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.b = conv(c, c), nn.Sequential(nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))

        def forward(self, x):
            return F.relu(x + self.b(self.a(x)))

    def model():
        return nn.Sequential(
            conv(3, 16), Block(16), Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
        )

    return task("residual", model, lambda n, seed: inputs(n, seed, 3, 16, 16))


# --- refused --------------------------------------------------------------------------------------------------------


def lstm():
    def run(part, x):
        return part["out"](part["rnn"](x)[0][:, -1])

    return task(
        "lstm",
        lambda: Model(run, rnn=nn.LSTM(12, 64, 2, batch_first=True), out=nn.Linear(64, 4)),
        lambda n, seed: inputs(n, seed, 20, 12),
    )


def gru_both_ways():
    def run(part, x):
        return part["out"](part["rnn"](x)[0].mean(1))

    return task(
        "gru_both_ways",
        lambda: Model(run, rnn=nn.GRU(12, 32, batch_first=True, bidirectional=True), out=nn.Linear(64, 4)),
        lambda n, seed: inputs(n, seed, 20, 12),
    )


def encoder():
    """Two layers of torch's own transformer encoder, GELU, on feature vectors."""

    def model():
        layer = nn.TransformerEncoderLayer(64, 4, 256, activation="gelu", batch_first=True, norm_first=True)
        return Model(
            lambda part, x: part["out"](part["body"](x).mean(1)),
            body=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            out=nn.Linear(64, 4),
        )

    return task("encoder", model, lambda n, seed: inputs(n, seed, 16, 64))


def outlier():
    """One channel between the second and the third layer is 500 times as large as the others."""

    def run(part, x):
        for name in "abcd":
            x = F.relu(part[name](x))
        return part["last"](x)

    def model():
        a, b = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3)
        c, d = nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3)
        for layer in (a, b, c, d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():
            b.weight[0] *= 500
            c.weight[:, 0] /= 500
        return Model(run, a=a, b=b, c=c, d=d, last=nn.Conv2d(32, 4, 1))

    return task("outlier", model, lambda n, seed: inputs(n, seed, 3, 12, 12))


def patches():
    """A small vision transformer: patches by a convolution, a class token, learned positions, fused attention."""

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.cut, self.token, self.place = (
                nn.Conv2d(3, 48, 8, 8),
                nn.Parameter(torch.zeros(1, 1, 48)),
                nn.Parameter(torch.randn(1, 17, 48) * 0.02),
            )
            self.norms, self.qkv, self.proj = (
                nn.ModuleList(nn.LayerNorm(48) for _ in range(3)),
                nn.Linear(48, 144),
                nn.Linear(48, 48),
            )
            self.mlp, self.out = nn.Sequential(nn.Linear(48, 192), nn.GELU(), nn.Linear(192, 48)), nn.Linear(48, 5)

        def forward(self, x):
            x = self.cut(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
            n, t, c = x.shape
            q, k, v = self.qkv(self.norms[0](x)).reshape(n, t, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
            x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c))
            x = x + self.mlp(self.norms[1](x))
            return self.out(self.norms[2](x)[:, 0])

    return task("patches", Tiny, lambda n, seed: inputs(n, seed, 3, 32, 32))


def next_block():
    """A ConvNeXt block: 7x7 depthwise, LayerNorm over channels last, GELU, a learned scale."""

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.dw, self.norm, self.a, self.b, self.scale = (
                nn.Conv2d(c, c, 7, padding=3, groups=c),
                nn.LayerNorm(c),
                nn.Linear(c, 4 * c),
                nn.Linear(4 * c, c),
                nn.Parameter(torch.full((c,), 0.1)),
            )

        def forward(self, x):
            y = self.b(F.gelu(self.a(self.norm(self.dw(x).permute(0, 2, 3, 1))))) * self.scale
            return x + y.permute(0, 3, 1, 2)

    return task(
        "next_block",
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 4, 4), Block(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)
        ),
        lambda n, seed: inputs(n, seed, 3, 32, 32),
    )


def norms():
    """GroupNorm, InstanceNorm, PReLU, ELU, Mish, Softplus in a chain."""

    def model():
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.PReLU(16),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.InstanceNorm2d(16, affine=True),
            nn.ELU(),
            nn.Conv2d(16, 16, 1),
            nn.Mish(),
            nn.Conv2d(16, 16, 1),
            nn.Softplus(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        )

    return task("norms", model, lambda n, seed: inputs(n, seed, 3, 16, 16))


def super_resolution():
    return task(
        "super_resolution",
        lambda: nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(16, 9, 3, padding=1),
            nn.PixelShuffle(3),
        ),
        lambda n, seed: inputs(n, seed, 1, 16, 16),
    )


def uneven_pool():
    """Adaptive pooling to a size that does not divide the plane."""
    return task(
        "uneven_pool",
        lambda: nn.Sequential(conv(3, 8), nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(200, 4)),
        lambda n, seed: inputs(n, seed, 3, 13, 13),
    )


def grouped_up():
    return task(
        "grouped_up",
        lambda: nn.Sequential(conv(3, 16, 3, 2), nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=16), nn.Conv2d(16, 3, 1)),
        lambda n, seed: inputs(n, seed, 3, 16, 16),
    )


def volumes():
    return task(
        "volumes",
        lambda: nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)
        ),
        lambda n, seed: inputs(n, seed, 1, 6, 10, 10),
    )


def grouped_volumes():
    """Three dimensions in groups, which LiteRT has no operator for."""
    return task(
        "grouped_volumes",
        lambda: nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(144, 3)
        ),
        lambda n, seed: inputs(n, seed, 1, 4, 5, 5),
    )


def inverted():
    """A matrix is inverted, for which ONNX has no operator."""

    def run(part, x):
        return part["fc"](torch.linalg.inv(part["matrix"](x).view(-1, 3, 3) + 9 * torch.eye(3)).flatten(1))

    def model():
        return Model(run, matrix=nn.Linear(8, 9), fc=nn.Linear(9, 4))

    return task("inverted", model, lambda n, seed: inputs(n, seed, 8))


def doubled():
    """float64 throughout."""
    return task(
        "doubled",
        lambda: nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3)).double(),
        lambda n, seed: inputs(n, seed, 16).double(),
        loss=lambda o, y: F.mse_loss(o, y.double()),
    )


# --- little gain ----------------------------------------------------------------------------------------------------


def squeeze_excite():
    """Blocks of an EfficientNet: SiLU and a gate. In int8 almost no layer takes a sparse kernel."""

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            e = 4 * c
            self.up, self.dw, self.down = (
                nn.Conv2d(c, e, 1),
                nn.Conv2d(e, e, 3, padding=1, groups=e),
                nn.Conv2d(e, c, 1),
            )
            self.a, self.b = nn.Conv2d(e, c // 4, 1), nn.Conv2d(c // 4, e, 1)

        def forward(self, x):
            y = F.silu(self.dw(F.silu(self.up(x))))
            return x + self.down(y * torch.sigmoid(self.b(F.silu(self.a(y.mean((2, 3), keepdim=True))))))

    return task(
        "squeeze_excite",
        lambda: nn.Sequential(
            nn.Conv2d(3, 64, 3, 2, 1), Block(64), Block(64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)
        ),
        lambda n, seed: inputs(n, seed, 3, 56, 56),
    )


# --- the search for a ticket ---------------------------------------------------------------------------------------


def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def together():
    """All tensors ranked together, a network of linear layers: --levels 1 --density 0.1 gives 7.7 %."""
    return task(
        "together",
        mlp,
        lambda n, seed: inputs(n, seed, 64),
        recipe=Recipe(iterations=10, batch_size=16, scope="global"),
    )


def reachable():
    """--levels 5 --density 0.02 is refused, --levels 5 --rate 0.6 reaches 1.8 %."""
    return task("reachable", mlp, lambda n, seed: inputs(n, seed, 64))


def tensor_rate():
    """A learning rate that is a tensor: the checkpoint after 20 seconds cannot be written (--rate 0.5 --levels 1)."""
    import time

    def slow(outputs, y):
        time.sleep(0.05)
        return F.mse_loss(outputs, y)

    return task(
        "tensor_rate",
        mlp,
        lambda n, seed: inputs(n, seed, 64),
        loss=slow,
        recipe=Recipe(iterations=600, batch_size=16, evaluate_every=100),
        optimizer=lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-3)),
    )


def plateau():
    """torch's ReduceLROnPlateau as schedule."""
    return task(
        "plateau",
        mlp,
        lambda n, seed: inputs(n, seed, 64),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
    )
