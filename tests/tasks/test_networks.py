"""Sizes, shapes and starting weights of the built-in networks, and what their layout in memory asks of an optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgeprune.tasks import networks, recipes


@pytest.mark.parametrize(
    ("make", "shape", "parameters"),
    [
        (lambda: networks.mlp((784, 300, 100, 10)), (784,), 266_610),
        (networks.lenet5, (1, 28, 28), 431_080),
        (lambda: networks.conv_n(2), (3, 32, 32), 4_301_642),
        (lambda: networks.conv_n(4), (3, 32, 32), 2_425_930),
        (lambda: networks.conv_n(6), (3, 32, 32), 2_262_602),
        (networks.resnet20, (3, 32, 32), 272_474),
        (networks.vgg16, (3, 32, 32), 14_710_464 + 2 * 4224 + 5130),
    ],
)
def test_sizes(make: Callable[[], nn.Module], shape: tuple[int, ...], parameters: int) -> None:
    model = make()
    assert model(torch.randn(2, *shape)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert list(dict(model.named_parameters()))[-2:] == ["output.weight", "output.bias"]


def test_weights_start_as_gaussian_glorot() -> None:
    torch.manual_seed(0)
    model = networks.lenet5()
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            assert module.bias is not None and not module.bias.any()
            fan_in, fan_out = module.weight[0].numel(), len(module.weight) * module.weight[0, 0].numel()
            deviation = (2 / (fan_in + fan_out)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(deviation, rel=0.15)
            assert float(module.weight.detach().abs().max()) > 2.2 * deviation  # not uniform, which ends at 1.73


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        optimizer.zero_grad()
        model(torch.randn(4, 1, 28, 28, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("make", [recipes.adam(1e-2), recipes.sgd(1e-2, 0.9, 1e-4)])
def test_a_state_that_lost_its_layout_is_loaded_right(make: recipes.MakeOptimizer) -> None:
    """Files keep no strides; a fused optimizer goes by memory. Going on from a file must equal going on."""
    torch.manual_seed(0)
    model = networks.lenet5()
    optimizer = make(list(model.parameters()))
    steps(model, optimizer, 2)
    assert not model.conv2.weight.is_contiguous(), "else this test would test nothing"
    saved = {name: value.detach().contiguous().clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    for values in state["state"].values():
        values.update({k: v.contiguous() for k, v in values.items() if isinstance(v, torch.Tensor)})
    steps(model, optimizer, 2)

    resumed = networks.lenet5()
    resumed.load_state_dict(saved)
    going_on = make(list(resumed.parameters()))
    going_on.load_state_dict(state)
    steps(resumed, going_on, 2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1 / 10), (4, 0.05), (9, 0.1), (799, 0.1), (800, 0.01), (1199, 0.01), (1200, 0.001), (1599, 0.001)],
)
def test_warm_up_and_drops(step: int, rate: float) -> None:
    assert rate_at(recipes.warm_up_and_drops, step, 1600) == pytest.approx(rate)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.1), (400, 0.075), (1599, 0.1 / 1600), (1600, 0.0)])
def test_linear_decay(step: int, rate: float) -> None:
    assert rate_at(recipes.linear_decay, step, 1600) == pytest.approx(rate)


def rate_at(schedule: Callable[..., object], step: int, iterations: int) -> float:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = schedule(optimizer, iterations)
    for _ in range(step):
        optimizer.step()
        scheduler.step()  # type: ignore[attr-defined]
    return float(optimizer.param_groups[0]["lr"])
