"""What is prunable, and at which share of the rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import TaskError
from edgeprune.find.prunable import channel_parameters, output_layers, prunable_shapes, rate_factors
from edgeprune.patterns import load

MLP = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
CNN = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def test_weights_of_linear_and_convolution_layers_only():
    assert prunable_shapes(CNN) == {"0.weight": (4, 1, 3, 3), "4.weight": (3, 144)}


def test_the_output_layer_of_an_mlp_is_pruned_at_half_the_rate():
    factors = rate_factors(MLP, torch.zeros(2, 8), None, load("unstructured"))
    assert factors == {"0.weight": 1.0, "2.weight": 1.0, "4.weight": 0.5}


def test_a_convolutional_network_is_pruned_evenly_by_default():
    assert set(rate_factors(CNN, torch.zeros(2, 1, 8, 8), None, load("unstructured")).values()) == {1.0}


def test_rate_scale_takes_the_first_match():
    factors = rate_factors(MLP, torch.zeros(2, 8), {"4.*": 0.0, "*": 0.25}, load("unstructured"))
    assert factors == {"0.weight": 0.25, "2.weight": 0.25, "4.weight": 0.0}


def test_the_channel_pattern_never_prunes_answers():
    assert rate_factors(CNN, torch.zeros(2, 1, 8, 8), None, load("channel"))["4.weight"] == 0.0


def test_both_heads_of_a_two_headed_network_are_outputs():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 3), nn.Linear(6, 1)

        def forward(self, x):
            h = self.trunk(x).relu()
            return self.a(h), self.b(h)

    assert output_layers(TwoHeads(), torch.zeros(2, 8)) == {"a.weight", "b.weight"}


def test_a_shared_weight_counts_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert list(prunable_shapes(nn.Sequential(first, second))) == ["0.weight"]


def test_nothing_to_prune_is_an_error():
    with pytest.raises(TaskError, match="nothing to prune"):
        prunable_shapes(nn.Sequential(nn.BatchNorm1d(4)))


def test_a_channel_takes_its_bias_and_the_norm_right_behind_it_along():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
            self.second, self.late = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.norm(self.first(x))
            return self.late(self.second(x).relu())

    found = channel_parameters(Block(), torch.zeros(2, 1, 8, 8))
    assert found == {"first.weight": ("norm.weight", "norm.bias"), "second.weight": ("second.bias",)}
