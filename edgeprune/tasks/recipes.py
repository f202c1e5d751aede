"""Losses, optimizers and learning-rate schedules that several of the built-in tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


def cross_entropy(output: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits [n, classes] against class numbers [n]."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(output, targets)


def adam(learning_rate: float) -> MakeOptimizer:
    """Adam, one fused kernel a step."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        import torch

        return _layout_kept(torch.optim.Adam(parameters, lr=learning_rate, fused=True))

    return make


def sgd(learning_rate: float, momentum: float, weight_decay: float) -> MakeOptimizer:
    """Stochastic gradient descent with momentum and weight decay, one fused kernel a step."""

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        import torch

        return _layout_kept(
            torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=True)
        )

    return make


def _layout_kept(optimizer: Optimizer) -> Optimizer:
    """The optimizer, made to lay out a state that it loads like its parameters. The fused kernels go through memory
    from end to end without a look at the strides: a momentum in another layout would move the wrong weights."""
    import torch

    def lay_out(loaded: Optimizer) -> None:
        for parameter, state in loaded.state.items():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    optimizer.register_load_state_dict_post_hook(lay_out)
    return optimizer


def linear_decay(optimizer: Optimizer, iterations: int) -> LRScheduler:
    """The full learning rate at the first step, falling in a straight line to 0 after the last."""
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / iterations))


def warm_up_and_drops(optimizer: Optimizer, iterations: int) -> LRScheduler:
    """A linear rise over the first 1/160 of the steps (one epoch of 160), a tenth of the rate from one half of the
    steps on and a hundredth from three quarters on."""
    from torch.optim.lr_scheduler import LambdaLR

    warm_up = max(1, iterations // 160)

    def factor(step: int) -> float:
        drops = (2 * step >= iterations) + (4 * step >= 3 * iterations)
        return min(1.0, (step + 1) / warm_up) * 0.1**drops

    return LambdaLR(optimizer, factor)
