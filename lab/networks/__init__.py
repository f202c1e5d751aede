"""The networks that the sparse kernels are timed on, as plain torch modules, and the task that each becomes.

A ticket's task is a copy of this folder, so it imports nothing else of the laboratory. `random-SEED` is drawn from its
seed: any stack of plain, residual and inverted blocks with any numbers of channels. The weights are random, since a
kernel's speed depends on where the zeros lie and not on what the others are worth.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune import Data, Recipe, Split, Task
from edgeprune.tasks.networks import mlp

from .blocks import Inverted, Residual, convolution, head
from .images import IMAGES
from .recurrent import STEPS, gru, lstm
from .tokens import LENGTH, VOCABULARY, bert_tiny, convnext_atto, gpt_tiny, vit_tiny

EXAMPLES = {"train": 64, "validation": 32, "test": 2}
MACS = (0.3e9, 0.8e9)
IMAGE, LARGE = (3, 32, 32), (3, 224, 224)
WIDTHS = (1024, 2048, 2048, 1024, 16)  # of "mlp"


def drawn(seed: int) -> nn.Module:
    """A network drawn from a seed, drawn again until it is about as large as ResNet-18 (0.3 to 0.8 GMAC)."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        network = _draw(generator)
        if MACS[0] <= macs(network, IMAGE) <= MACS[1]:
            return network


def _draw(generator: torch.Generator) -> nn.Module:
    def choose(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    channels = choose(24, 96)
    layers = convolution(3, channels, 3, activation=nn.ReLU())
    for stage in range(choose(3, 4)):
        for block in range(choose(1, 3)):
            outputs = channels if block else choose(48, 160) * (stage + 1)
            stride, size = 2 if stage and not block else 1, (1, 3, 3, 5)[choose(0, 3)]
            kind = choose(0, 2)
            if kind == 0:
                layers += convolution(channels, outputs, size, stride, nn.ReLU())
            elif kind == 1:
                layers.append(Residual(channels, outputs, size, stride))
            else:
                layers.append(Inverted(channels, outputs, max(size, 3), stride, choose(2, 4)))
            channels = outputs
    return nn.Sequential(*layers, *head(channels, 10))


def small(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A network drawn from a seed of the size that devices run in microseconds, and the shape of one input."""
    generator = torch.Generator().manual_seed(seed)

    def choose(*values: int) -> int:
        return values[int(torch.randint(len(values), (), generator=generator))]

    if choose(0, 1):
        widths = [choose(16, 23, 64, 256, 784), *(choose(16, 32, 100, 128, 300, 512) for _ in range(choose(1, 2, 3)))]
        # Not `mlp`, which draws its weights: scripts/fingerprint trains these as torch leaves them.
        pairs = [layer for pair in zip(widths, widths[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*pairs, nn.Linear(widths[-1], choose(1, 2, 10))), (widths[0],)
    inputs, side, channels = choose(1, 3), choose(16, 28, 32, 64), choose(8, 12, 16, 32)
    layers = convolution(inputs, channels, 3, activation=nn.ReLU())
    for _ in range(choose(1, 2, 4)):
        outputs, size, stride = choose(16, 24, 32, 64, 128), choose(1, 3, 5), choose(1, 2)
        if choose(0, 1):
            layers += convolution(channels, outputs, size, stride, nn.ReLU())
        else:
            layers.append(Inverted(channels, outputs, max(size, 3), stride, choose(2, 4)))
        channels = outputs
    return nn.Sequential(*layers, *head(channels, 10)), (inputs, side, side)


MAKERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{name: (make, (3, side, side)) for name, (make, side) in IMAGES.items()},
    "vit-tiny": (vit_tiny, LARGE),
    "bert-tiny": (bert_tiny, (LENGTH,)),
    "gpt-tiny": (gpt_tiny, (LENGTH,)),
    "convnext-atto": (convnext_atto, LARGE),
    "gru": (gru, STEPS),
    "lstm": (lstm, STEPS),
}
IDS = {"bert-tiny": VOCABULARY, "gpt-tiny": VOCABULARY}  # networks that take ids, and how many there are


def noise(name: str, examples: int, generator: torch.Generator) -> Tensor:
    """Inputs [examples, *shape] of a network: from a normal distribution, or ids."""
    shape = (examples, *network_of(name)[1])
    if name in IDS:
        return torch.randint(IDS[name], shape, generator=generator)
    return torch.randn(shape, generator=generator)


def macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and linear layers for one input."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        total += weight.numel() * output[0].numel() // len(weight)

    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = network.training
    with torch.inference_mode():
        words = any(isinstance(module, nn.Embedding) for module in network.modules())
        network.eval()(torch.zeros(1, *shape, dtype=torch.int64 if words else None))
    for hook in hooks:
        hook.remove()
    network.train(training)
    return total


def network_of(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network by its name, "mlp", one of IMAGES, random-SEED or small-SEED, and the shape of one input."""
    if name.startswith("random-"):
        return drawn(int(name.removeprefix("random-"))), IMAGE
    if name.startswith("small-"):
        return small(int(name.removeprefix("small-")))
    if name == "mlp":
        return mlp(WIDTHS), WIDTHS[:1]
    make, shape = MAKERS[name]
    return make(), shape


def kept_dense(network: nn.Module) -> list[str]:
    """The weights that are not pruned: a stem's, which reads the image's three colours, and depthwise ones."""
    return [
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) and (layer.in_channels == IMAGE[0] or layer.groups > 1)
    ]


def task(name: str) -> Task:
    """A network as a task whose inputs are noise. Nothing is learned, so there is nothing to judge: the metric is 0."""

    def splits(folder: object) -> Data:
        generator = torch.Generator().manual_seed(0)

        def split(examples: int) -> Split:
            return Split(noise(name, examples, generator), torch.zeros(examples, dtype=torch.int64))

        return Data(*[split(examples) for examples in EXAMPLES.values()])

    return Task(
        name=name,
        model=lambda: network_of(name)[0],
        data=splits,
        loss=F.cross_entropy,
        metric=lambda outputs, targets: 0.0,
        metric_name="nothing",
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        recipe=Recipe(iterations=1, batch_size=1, rate_scale=dict.fromkeys(kept_dense(network_of(name)[0]), 0.0)),
    )
