"""Weights that are more than plain, trained, own ones: shared, normed, frozen, zero from the start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeprune import Ticket, tasks
from edgeprune.export.network import load_network, masks_of
from edgeprune.find import doubts, find_levels, prepare
from edgeprune.options import FindOptions
from edgeprune.tasks.plain import FOLDED, plain_weights

CASES = Path(__file__).parents[1] / "cases" / "networks.py"
TINY = Path(__file__).parent / "tiny_task.py"


def problem(loaded, **options):
    return prepare(loaded, FindOptions(**{"levels": 1, "rates": (0.5,), "seeds": (1,), "threads": 1, **options}), None)


def ticket_of(found, folder) -> Ticket:
    return list(find_levels(found, folder))[-1].ticket


def tiny(model, **changes):
    """The tiny task with another network [n, 12] -> [n, 4]."""
    loaded = tasks.load(f"{TINY}:make")
    return dataclasses.replace(loaded, task=dataclasses.replace(loaded.task, model=model, augment=None, **changes))


def zeros_are_exact(ticket: Ticket, *roles: str) -> None:
    mask = ticket.mask(1)
    for role in roles or ("trained", "reinit"):
        for name, array in mask.items():
            assert np.all(ticket.weights(1, role)[name][~array].view(np.int32) == 0), (role, name)


def test_a_shared_weight_has_one_mask_under_each_of_its_names(tmp_path):
    ticket = ticket_of(problem(tasks.load(f"{CASES}:tied")), tmp_path)
    mask, weights = ticket.mask(1), ticket.weights(1)
    assert set(mask) == {"embed.weight", "out.weight", "hidden.weight"}
    np.testing.assert_array_equal(mask["embed.weight"], mask["out.weight"])
    np.testing.assert_array_equal(weights["embed.weight"], weights["out.weight"])
    zeros_are_exact(ticket)
    assert mask.total == 50 * 32 + 32 * 32
    assert mask.density == ticket.record(1).levels[1].density == ticket.verdict.density
    assert all(array.any() for array in weights["embed.weight"]), "a word without a vector could not be read"
    network = load_network(tasks.load(f"{CASES}:tied").task, weights)
    assert network.out.weight is network.embed.weight
    assert set(masks_of(network, mask, "ticket")) == {"embed.weight", "hidden.weight"}
    masked = mask.apply(ticket.weights(1, "rewind"))
    np.testing.assert_array_equal(masked["embed.weight"], masked["out.weight"])


def test_a_weight_norm_is_folded_and_its_weights_are_pruned(tmp_path):
    found = problem(tasks.load(f"{CASES}:weight_normed"))
    assert any("norm of 1.weight, 4.weight, 7.weight is folded" in doubt for doubt in doubts(found))
    ticket = ticket_of(found, tmp_path)
    assert set(ticket.mask(1)) == {"1.weight", "4.weight", "7.weight", "11.weight"}
    assert ticket.verdict.density == pytest.approx(0.5, abs=1e-3)
    zeros_are_exact(ticket)
    whole = 1 - 0.5 * ticket.mask(1).total / sum(
        p.numel() for p in load_network(found.loaded.task, ticket.weights(1)).parameters()
    )
    assert f"({100 * whole:.2f} % of the whole network)" in ticket.verdict.statement


@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: nn.utils.parametrizations.spectral_norm(nn.utils.parametrizations.weight_norm(layer)),
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
    ids=["weight", "spectral", "both", "old weight", "old spectral"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_folded_weights_are_those_that_the_layer_used(norm):
    torch.manual_seed(3)
    model = nn.Sequential(norm(nn.Conv1d(3, 5, 3)), nn.ReLU(), norm(nn.Linear(4, 2))).eval()
    x = torch.randn(2, 3, 6)
    expected = model(x)
    folded = plain_weights(model)
    assert folded is model
    assert getattr(model, FOLDED) == ("0.weight", "2.weight")
    assert [name for name, _ in model.named_parameters()].count("0.weight") == 1
    assert isinstance(model[0].weight, nn.Parameter)
    assert set(model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    torch.testing.assert_close(model(x), expected)
    model(x).sum().backward()
    assert model[0].weight.grad is not None


def test_other_parametrizations_stay_and_are_told():
    class Positive(nn.Module):
        def forward(self, weight):
            return F.softplus(weight)

    def network():
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
        nn.utils.parametrize.register_parametrization(model[0], "weight", Positive())
        return model

    found = problem(tiny(network))
    assert list(found.spec.rate_scale) == ["2.weight"]
    assert any("0.parametrizations.weight.original (384: computed from" in doubt for doubt in doubts(found))


def test_frozen_weights_are_left_alone_with_a_word(tmp_path):
    def network():
        model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4))
        for parameter in model[0].parameters():
            parameter.requires_grad_(False)
        return model

    found = problem(tiny(network))
    assert any(doubt == "frozen, so neither trained nor pruned: 0.weight" for doubt in doubts(found))
    ticket = ticket_of(found, tmp_path)
    assert set(ticket.mask(1)) == {"2.weight", "4.weight"}
    np.testing.assert_array_equal(ticket.weights(1)["0.weight"], ticket.weights(1, "dense")["0.weight"])
    np.testing.assert_array_equal(ticket.weights(1)["0.weight"], ticket.weights(1, "rewind")["0.weight"])


def half_zero():
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    model[0].weight.data[::2] = 0
    return model


def test_zeros_that_are_brought_along_stay_zeros_through_all_levels(tmp_path):
    found = problem(tiny(half_zero))
    assert any(doubt.startswith("192 weights are zero already and stay zero") for doubt in doubts(found))
    ticket = ticket_of(found, tmp_path / "kept")
    assert ticket.record(1).levels[0].density == pytest.approx(1 - 192 / 512)
    for role in ("dense", "trained", "reinit"):
        assert not ticket.weights(1, role)["0.weight"][::2].any(), role
    other = problem(tiny(half_zero), revive=True)
    assert other.spec.id != found.spec.id
    grown = ticket_of(other, tmp_path / "grown")
    assert grown.record(1).levels[0].density == 1
    assert grown.weights(1, "dense")["0.weight"][::2].any()
