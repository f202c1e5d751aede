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
from edgeprune.export.tracing import trace as export_trace
from edgeprune.find.prunable import Layout, find_prunable, rate_factors
from edgeprune.find.pruning import make_pruner
from edgeprune.patterns import load
from edgeprune.tasks.plain import plain_name, without_parametrizations

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
    class Shifted(nn.Module):
        def forward(self, weight):
            return weight + 0.5

    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].weight.requires_grad_(False)
    parametrize.register_parametrization(model[1], "weight", Shifted())
    model[2].forward = lambda x: torch.nn.functional.linear(x, model[2].weight * 2)
    pruner = make_pruner(model, torch.zeros(2, 8), None, load("unstructured"), "layer")
    assert list(pruner.factors) == ["3.weight"]
    told = pruner.told()[0]
    assert told.startswith("22 % of the network's 288 weights can be pruned; not: ")
    assert "0.weight (64: frozen)" in told
    assert "1.parametrizations.weight.original (64: computed from other parameters)" in told
    assert "2.weight (64: its layer computes other weights from it)" in told
    assert told.endswith("biases and norms (32)")


class Biased(nn.Module):
    """Biases of each place by a layer that reads a table, as Swin Transformer V2 has them."""

    def __init__(self):
        super().__init__()
        self.layer, self.biases = nn.Linear(8, 8), nn.Linear(1, 8)
        self.register_buffer("table", torch.linspace(0, 1, 8)[:, None])

    def forward(self, x):
        return self.layer(x) + self.biases(self.get_buffer("table")).sum(0)


def test_a_layer_that_reads_constants_alone_stays_dense_with_a_word_and_the_rest_is_exported():
    model = Biased().eval()
    pruner = make_pruner(model, torch.zeros(2, 8), None, load("unstructured"), "layer")
    assert list(pruner.factors) == ["layer.weight"]
    assert "biases.weight (8: its layer reads nothing that depends on the input)" in pruner.told()[0]
    masks = {name: np.ones(shape, dtype=np.bool_) for name, shape in pruner.prunable.shapes.items()}
    assert list(export_trace(model, torch.zeros(2, 8), masks).weights) == ["layer.weight"]


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


class Even(nn.Module):
    """Takes the mean away, so that a zero is none of the weight."""

    def forward(self, weight):
        return weight - weight.mean()


def test_a_parametrized_layer_is_pruned_where_its_zeros_are_the_weights():
    model = nn.Sequential(nn.ConvTranspose1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.Conv1d(8, 2, 1))
    for layer in (model[0], model[2]):
        parametrize.register_parametrization(layer, "weight", Half())
    parametrize.register_parametrization(model[3], "weight", Even())
    pruner = make_pruner(model, torch.zeros(2, 4, 9), None, load("block:1x4"), "layer")
    name = "0.parametrizations.weight.original"
    assert set(pruner.factors) == {name, "2.parametrizations.weight.original"}
    assert pruner.prunable.layouts[name] == Layout((4, 8, 3), groups=1)
    with pytest.raises(TaskError, match="made for all of its channels"):
        make_pruner(model, torch.zeros(2, 4, 9), None, load("channel"), "layer")


def test_a_parametrized_weight_keeps_its_zeros_when_it_is_folded():
    layer = nn.Linear(8, 8)
    parametrize.register_parametrization(layer, "weight", Half())
    x, mask = torch.randn(2, 8), torch.rand(8, 8) < 0.5
    layer.parametrizations.weight.original.data *= mask
    before = layer(x)
    plain = without_parametrizations(layer)
    assert torch.equal(plain(x), before) and not plain.weight[~mask].any()
    names = ("parametrizations.weight.original", "a.parametrizations.b.original", "a.b")
    assert list(map(plain_name, names)) == ["weight", "a.b", "a.b"]


class Last(nn.Module):
    """A recurrent layer over [n, 5, 8], read at its last step by a linear one."""

    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(8, 12, batch_first=True, **options)
        width = (options.get("proj_size") or 12) * (2 if options.get("bidirectional") else 1)
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Steps(nn.Module):
    """A cell, called at each step."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        state = x.new_zeros(len(x), 12)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.out(state)


class Attending(nn.Module):
    """Attention whose keys and values are others than its queries where `other`; weights: it gives its weights, too."""

    def __init__(self, other=False, weights=True, **options):
        super().__init__()
        self.other, self.weights = other, weights
        self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True, **options), nn.Linear(8, 3)

    def forward(self, x):
        read = x[..., : self.attention.kdim] if self.other else x
        return self.out(self.attention(x, read, read, need_weights=self.weights)[0].mean(1))


PROJECTIONS = {"attention.out_proj.weight", "out.weight"}
LAYERS = {
    "lstm": (lambda: Last(nn.LSTM, num_layers=2), {f"rnn.weight_{kind}_l{n}" for kind in ("ih", "hh") for n in (0, 1)}),
    "both ways": (
        lambda: Last(nn.GRU, bidirectional=True),
        {f"rnn.weight_{kind}_l0{end}" for kind in ("ih", "hh") for end in ("", "_reverse")},
    ),
    "projected": (lambda: Last(nn.LSTM, proj_size=5), {f"rnn.weight_{kind}_l0" for kind in ("ih", "hh", "hr")}),
    "plain": (lambda: Last(nn.RNN), {"rnn.weight_ih_l0", "rnn.weight_hh_l0"}),
    "cell": (Steps, {"cell.weight_ih", "cell.weight_hh"}),
    "attention": (Attending, {"attention.in_proj_weight", *PROJECTIONS}),
    "heads": (lambda: Attending(weights=False), {"attention.in_proj_weight", *PROJECTIONS}),
    "attention to others": (lambda: Attending(other=True), {"attention.in_proj_weight", *PROJECTIONS}),
    "attention to smaller": (
        lambda: Attending(other=True, kdim=6, vdim=6),
        {*(f"attention.{letter}_proj_weight" for letter in "qkv"), *PROJECTIONS},
    ),
}


@pytest.mark.parametrize("pattern", ["unstructured", "block:4x1", "block:1x4", "2:4"])
@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers_and_attention_are_layers_like_others(name, pattern):
    make, weights = LAYERS[name]
    model = make()
    pruner = make_pruner(model, torch.zeros(2, 5, 8), None, load(pattern), "layer")
    assert set(pruner.factors) == {*weights, "out.weight"}
    values = {name: value.numpy() for name, value in model.state_dict().items()}
    first = pruner.first(values, revive=False)
    mask = pruner.prune(values, first, first, [0.5])
    assert all(0.2 < mask[name].mean() <= 0.8 for name in weights)


@pytest.mark.parametrize("name", LAYERS)
def test_the_channel_pattern_takes_recurrent_units_and_heads_of_self_attention_without_weights(name):
    make, weights = LAYERS[name]
    inner = make()
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), inner, nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    pruner = make_pruner(model, torch.zeros(2, 5, 8), None, load("channel"), "layer")
    inner = {f"2.{name}" for name in weights - PROJECTIONS}
    free = {name for name, factor in pruner.factors.items() if factor}
    assert "2.out.weight" in free
    whole = {"projected": "projected", "attention to others": "whole", "attention to smaller": "whole",
             "attention": "mean over channels reads it"}  # fmt: skip
    if name in whole:
        assert not free & inner and all(whole[name] in pruner.dense()[weight] for weight in inner)
        assert ("0.weight" in free) == (name == "attention")
    else:
        assert free >= {"0.weight", *inner}


def test_a_recurrent_layer_that_runs_its_own_way_is_left_alone():
    class Odd(nn.GRUCell):
        def forward(self, x, state):
            return torch.tanh(x @ (2 * self.weight_ih[:12].T) + state @ (2 * self.weight_hh[:12].T))

    model = Steps()
    model.cell = Odd(8, 12)
    prunable = find_prunable(model)
    assert list(prunable.layouts) == ["out.weight"]
    assert prunable.dense["cell.weight_hh"] == "a parameter of Odd"


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
