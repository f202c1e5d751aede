"""What is asked for is what is reached, over the networks of the cases and variations of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeprune.errors import TicketError
from edgeprune.find.pruning import Pruner, make_pruner
from edgeprune.find.schedule import resolve_rates
from edgeprune.patterns import load, names
from tests.masks import admits

CASES = Path(__file__).parents[1] / "cases" / "networks.py"
MLP = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def networks() -> Any:
    if "cases_networks" not in sys.modules:
        found = importlib.util.spec_from_file_location("cases_networks", CASES)
        sys.modules["cases_networks"] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules["cases_networks"])
    return sys.modules["cases_networks"]


def pruner_of(
    model: nn.Module, example: torch.Tensor, pattern="unstructured", scope="layer", rate_scale=None
) -> Pruner:
    return make_pruner(model, example, rate_scale, load(pattern), scope)


def weights_of(model: nn.Module):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def prune(model, example, rates, pattern="unstructured", **options):
    pruner = pruner_of(model, example, pattern, **options)
    weights = weights_of(model)
    first = pruner.first(weights, revive=False)
    return pruner, first, pruner.prune(weights, first, first, rates)


@pytest.mark.parametrize("rate_scale", [None, {"0.*": 0.3, "4.*": 0.6}, {"2.*": 0.0}])
def test_ranking_together_reaches_what_the_factors_say(rate_scale):
    pruner, first, mask = prune(
        nn.Sequential(*MLP), torch.zeros(2, 64), (0.5, 0.6), scope="global", rate_scale=rate_scale
    )
    assert mask.density == pytest.approx(pruner.reached((0.5, 0.6), first), abs=2e-4)
    densities = mask.densities()
    for factor in {*pruner.factors.values()}:
        part = [name for name in pruner.factors if pruner.factors[name] == factor]
        kept = sum(densities[name] * mask[name].size for name in part) / sum(mask[name].size for name in part)
        assert kept == pytest.approx((1 - 0.5 * factor) * (1 - 0.6 * factor), abs=2e-3)


def resolved(pruner, first, levels, density):
    return resolve_rates(levels, (), density, 0.2, lambda rates: pruner.reached(rates, first), pruner.pattern)


def test_ten_percent_together_are_ten_percent():
    task = networks().together()
    model, example = task.model(), task.data(None).train.inputs[:2]
    pruner = pruner_of(model, example, scope="global")
    first = pruner.first(weights_of(model), revive=False)
    mask = pruner.prune(weights_of(model), first, first, resolved(pruner, first, 1, 0.1))
    assert mask.density == pytest.approx(0.1, abs=5e-4)


def test_what_any_schedule_reaches_is_not_refused():
    model = nn.Sequential(*MLP)
    pruner = pruner_of(model, torch.zeros(2, 64))
    first = pruner.first(weights_of(model), revive=False)
    rates = resolved(pruner, first, 5, 0.02)
    assert pruner.reached(rates, first) == pytest.approx(0.02, abs=1e-4)
    with pytest.raises(TicketError, match=r"0.02 cannot be reached in 1 level: 0.02\d+ is the lowest.*kept dense"):
        resolved(pruner, first, 1, 0.02)


@given(
    density=st.floats(0.15, 0.9), levels=st.integers(1, 4), case=st.sampled_from(["residual", "decoder", "shuffled"])
)
@settings(max_examples=8)
def test_a_density_of_channels_is_met_within_a_group_of_them(density, levels, case):
    task = getattr(networks(), case)()
    model, example = task.model(), task.data(None).train.inputs[:2]
    pruner = pruner_of(model, example, "channel")
    assert pruner.coupled is not None
    first = pruner.first(weights_of(model), revive=False)
    if density <= pruner.reached((1 - 1e-9,) * levels, first):
        return
    rates = resolved(pruner, first, levels, density)
    mask = first
    for level in range(1, levels + 1):
        pruned = pruner.prune(weights_of(model), mask, first, rates[:level])
        assert pruned.is_subset_of(mask)
        assert all(array.any() for array in pruned.values())
        mask = pruned
    largest = max(stream.cost for stream in pruner.coupled.streams) / mask.total
    assert density - 2 * largest <= mask.density <= density + 1e-9


def test_coupled_channels_are_pruned_in_all_their_layers_or_in_none():
    task = networks().residual()
    model, example = task.model(), task.data(None).train.inputs[:2]
    _, _, mask = prune(model, example, (0.5,), "channel")
    rows = {name: mask[name].reshape(len(mask[name]), -1).any(1).tolist() for name in mask}
    stream = ["0.0.weight", "1.b.0.weight", "2.b.0.weight", "3.b.0.weight"]
    assert sum(rows[stream[0]]) == 8
    assert all(rows[name] == rows[stream[0]] for name in stream)
    assert all(rows["6.weight"])


def test_a_group_is_scored_by_all_that_write_it():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(F.relu(self.a(x) + self.b(x)))

    model = Sum()
    # Channel 1 is the smallest in `a` alone, channel 0 where both count; `b` has a hundredth of the scale.
    model.a.weight.data = torch.tensor([1.0, 0.9, 2.0])[:, None].expand(3, 4).clone()
    model.b.weight.data = 0.01 * torch.tensor([0.1, 3.0, 1.0])[:, None].expand(3, 4).clone()
    _, _, mask = prune(model, torch.zeros(2, 4), (0.34,), "channel")
    assert mask["a.weight"].any(1).tolist() == [False, True, True]
    assert mask["b.weight"].any(1).tolist() == [False, True, True]


@pytest.mark.parametrize("case", ["heads", "detector", "decoder"])
def test_every_channel_of_an_output_stays(case):
    task = getattr(networks(), case)()
    model, example = task.model().eval(), task.data(None).train.inputs[:8]
    pruner, _, mask = prune(model, example[:2], (0.5,), "channel")
    silent = pruner.silent(mask)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for arrays in (mask, silent):
                if name in arrays:
                    parameter *= torch.from_numpy(np.array(arrays[name]))
        outputs = model(example)
    channels = outputs.movedim(-1, 0) if case == "detector" else outputs.movedim(1, 0)
    assert (channels.flatten(1).std(1) > 0).all()
    assert mask.density < 0.65


@pytest.mark.parametrize("pattern", names())
def test_transposed_convolutions_are_pruned_in_the_pattern_along_their_outputs(pattern):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 12, 3), nn.Conv2d(12, 2, 1))
    _, _, mask = prune(model, torch.zeros(2, 3, 8, 8), (0.5,), pattern)
    turned = mask["1.weight"].swapaxes(0, 1)
    assert admits(load(pattern), turned)
    assert turned.mean() == pytest.approx(0.5, abs=0.05)


def test_zeros_that_a_model_brings_along_count_as_pruned_and_stay():
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    for layer in (model[0], model[2]):
        layer.weight.data[:, ::2] = 0
    pruner = pruner_of(model, torch.zeros(2, 64))
    weights = weights_of(model)
    first = pruner.first(weights, revive=False)
    assert first.density == 0.5
    assert pruner.first(weights, revive=True).density == 1
    rates = resolved(pruner, first, 2, 0.2)
    mask = pruner.prune(weights, first, first, rates)
    assert mask.is_subset_of(first)
    assert mask.density == pytest.approx(0.2, abs=1e-3)


def test_a_tensor_that_is_zero_throughout_is_an_initialisation():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    nn.init.zeros_(model[2].weight)
    pruner = pruner_of(model, torch.zeros(2, 8))
    assert pruner.first(weights_of(model), revive=False).density == 1
