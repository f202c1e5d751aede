"""What is prunable, why the rest is not, and at which share of the rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from edgeprune.channels import trace
from edgeprune.errors import TaskError
from edgeprune.find.prunable import Layout, find_prunable, rate_factors
from edgeprune.find.pruning import make_pruner
from edgeprune.patterns import load

MLP = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
CNN = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def factors(model, shape, rate_scale=None, pattern="unstructured"):
    return make_pruner(model, torch.zeros(2, *shape), rate_scale, load(pattern), "layer").factors


def test_weights_of_linear_and_convolution_layers_only():
    assert find_prunable(CNN).shapes == {"0.weight": (4, 1, 3, 3), "4.weight": (3, 144)}


def test_transposed_convolutions_are_layers_like_others():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 6, 3, groups=2))
    layouts = find_prunable(model).layouts
    assert layouts["1.weight"] == Layout((4, 3, 3, 3), groups=2)
    assert layouts["1.weight"].outputs_first == (6, 2, 3, 3)


@given(groups=st.integers(1, 3), inputs=st.integers(1, 3), outputs=st.integers(1, 3), seed=st.integers(0, 9))
def test_a_transposed_weight_has_its_output_channels_first(groups, inputs, outputs, seed):
    layer = nn.ConvTranspose1d(groups * inputs, groups * outputs, 2, groups=groups, bias=False)
    layout = Layout(tuple(layer.weight.shape), groups)
    turned = layout.turned(layer.weight.detach().numpy())
    np.testing.assert_array_equal(layout.turned(turned), layer.weight.detach().numpy())
    row = seed % len(turned)
    turned = np.array(turned)
    turned[row] = 0
    layer.weight.data = torch.from_numpy(np.array(layout.turned(turned)))
    silent = layer(torch.randn(1, groups * inputs, 4))[0].abs().sum(1) == 0
    assert silent.tolist() == [index == row for index in range(groups * outputs)]


def test_the_output_layer_of_an_mlp_is_pruned_at_half_the_rate():
    assert factors(MLP, (8,)) == {"0.weight": 1.0, "2.weight": 1.0, "4.weight": 0.5}


def test_a_convolutional_network_is_pruned_evenly_by_default():
    assert set(factors(CNN, (1, 8, 8)).values()) == {1.0}


def test_rate_scale_takes_the_first_match():
    found = factors(MLP, (8,), {"4.*": 0.0, "*": 0.25})
    assert found == {"0.weight": 0.25, "2.weight": 0.25, "4.weight": 0.0}


def test_rate_scale_knows_a_shared_weight_by_each_of_its_names():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    prunable = find_prunable(nn.Sequential(first, second))
    assert (list(prunable.layouts), prunable.tied) == (["0.weight"], {"1.weight": "0.weight"})
    assert rate_factors(prunable, None, {"1.*": 0.5}, load("unstructured")) == {"0.weight": 0.5}


def test_the_channel_pattern_never_prunes_answers():
    assert factors(CNN, (1, 8, 8), pattern="channel")["4.weight"] == 0.0


def test_a_decoders_bottleneck_is_no_answer():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.Conv2d(8, 4, 1), nn.ConvTranspose2d(4, 8, 2, 2), nn.Conv2d(8, 1, 1))
    assert factors(model, (1, 9, 9), pattern="channel") == {
        "0.weight": 1.0, "1.weight": 1.0, "2.weight": 1.0, "3.weight": 0.0,
    }  # fmt: skip


def test_nothing_to_prune_is_an_error():
    with pytest.raises(TaskError, match="nothing to prune"):
        find_prunable(nn.Sequential(nn.BatchNorm1d(4)))
    with pytest.raises(
        TaskError, match=r"nothing to prune.*0.weight: it is an output of the network.*; use another --pattern"
    ):
        factors(nn.Sequential(nn.Linear(4, 2)), (4,), pattern="channel")


def test_what_is_frozen_or_computed_is_left_alone_with_a_word():
    class Half(nn.Module):
        def forward(self, weight):
            return weight / 2

    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].weight.requires_grad_(False)
    parametrize.register_parametrization(model[1], "weight", Half())
    model[2].forward = lambda x: torch.nn.functional.linear(x, model[2].weight * 2)
    pruner = make_pruner(model, torch.zeros(2, 8), None, load("unstructured"), "layer")
    assert list(pruner.factors) == ["3.weight"]
    told = pruner.told()[0]
    assert told.startswith("22 % of the network's 288 weights can be pruned; not: ")
    assert "0.weight (64: frozen)" in told
    assert "1.parametrizations.weight.original (64: computed from other parameters)" in told
    assert "2.weight (64: its layer computes other weights from it)" in told
    assert told.endswith("biases and norms (32)")


def test_nothing_is_told_where_nine_tenths_can_be_pruned():
    wide = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    assert make_pruner(wide, torch.zeros(2, 64), None, load("unstructured"), "layer").told() == []


def test_a_channel_takes_its_bias_and_its_norms_along():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
            self.second, self.late = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.out = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.norm(self.first(x))
            return self.out(self.late(self.second(x).relu()))

    model = Block()
    pruner = make_pruner(model, torch.zeros(2, 1, 8, 8), None, load("channel"), "layer")
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    first = pruner.first(weights, revive=False)
    mask = pruner.prune(weights, first, first, [0.5])
    silent = pruner.silent(mask)
    dead = {name: ~mask[name].reshape(4, -1).any(1) for name in ("first.weight", "second.weight")}
    assert {name: (~array).tolist() for name, array in silent.items()} == {
        "norm.weight": dead["first.weight"].tolist(),
        "norm.bias": dead["first.weight"].tolist(),
        "second.bias": dead["second.weight"].tolist(),
        "late.weight": dead["second.weight"].tolist(),
        "late.bias": dead["second.weight"].tolist(),
    }
    assert all(dead[name].sum() == 2 for name in dead)
    assert trace(model, torch.zeros(2, 1, 8, 8)).computed.isdisjoint(mask)
