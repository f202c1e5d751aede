"""Which channels belong together, which are outputs of the network, and which have to stay."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgeprune.channels import Channels, trace

CASES = Path(__file__).parent / "cases" / "networks.py"


def load_cases():
    if "cases_networks" not in sys.modules:
        found = importlib.util.spec_from_file_location("cases_networks", CASES)
        sys.modules["cases_networks"] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules["cases_networks"])
    return sys.modules["cases_networks"]


def case(name: str) -> Channels:
    task = getattr(load_cases(), name)()
    return trace(task.model(), task.data(None).train.inputs[:2])


def outputs(channels: Channels) -> set[str]:
    """Weights all of whose output channels are outputs of the network."""
    return {name for name, made in channels.makes.items() if channels.outputs.issuperset(made.tolist())}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("heads", {"part.box.weight", "part.cls.weight"}),
        ("decoder", {"7.weight"}),
        ("detector", {"part.c.weight", "part.d.weight"}),
        ("super_resolution", {"4.weight"}),
        ("grouped_up", {"2.weight"}),
        ("patches", {"out.weight"}),
        ("gru_both_ways", {"part.out.weight"}),
        ("residual", {"6.weight"}),
    ],
)
def test_the_outputs_of_the_cases(name, expected):
    channels = case(name)
    assert outputs(channels) == expected
    others = {int(group) for weight, made in channels.makes.items() if weight not in expected for group in made}
    assert not others & channels.outputs


class Net(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleDict(layers)

    def forward(self, x):
        return self.function(x, **self.layers)


def two(head):
    """A convolution, then `head` on what a second one makes."""
    return Net(lambda x, a, b: head(b(F.relu(a(x)))), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 6, 3))


@pytest.mark.parametrize(
    "head",
    [
        torch.sigmoid,
        lambda x: x.flatten(2).permute(0, 2, 1),
        lambda x: F.softmax(x, 1),
        lambda x: x.amax(1),
        lambda x: x.argmax(1),
        lambda x: {"boxes": x[:, :4], "scores": [x[:, 4:].sigmoid()]},
        lambda x: torch.stack([x[:, 0], x[:, 1] * 2, x[:, 2:].sum(1)], 1),
        lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2, mode="bilinear"),
        lambda x: x.view(len(x), 2, 3, -1).transpose(1, 2).reshape(len(x), -1),
        lambda x: F.normalize(x, dim=1),
        lambda x: torch.where(x > 0, x, x.exp() - 1).mean((2, 3)),
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,)),
        lambda x: F.pixel_shuffle(F.pad(x, (0, 0, 0, 0, 0, 3)), 3),
    ],
)  # fmt: skip
def test_values_that_reach_an_output_unmixed_make_output_channels(head):
    channels = trace(two(head), torch.randn(2, 3, 12, 12))
    assert outputs(channels) == {"layers.b.weight"}
    assert not channels.outputs & set(channels.makes["layers.a.weight"].tolist())
    assert not channels.fixed.keys() & set(channels.makes["layers.a.weight"].tolist())


def test_only_the_channels_that_are_given_out_are_outputs():
    def forward(x, a, b):
        y = a(x)
        return y[:, :2], b(y[:, 2:])

    channels = trace(Net(forward, a=nn.Linear(4, 6), b=nn.Linear(4, 3)), torch.randn(2, 4))
    made = channels.makes["layers.a.weight"].tolist()
    assert [group in channels.outputs for group in made] == [True] * 2 + [False] * 4


def test_a_stream_is_one_group_a_channel_over_all_that_write_it():
    channels = case("residual")
    stream = channels.makes["0.0.weight"].tolist()
    assert len(set(stream)) == 16
    for name in ("1.b.0.weight", "2.b.0.weight", "3.b.0.weight"):
        assert channels.makes[name].tolist() == stream
    assert channels.reads["6.weight"].tolist() == stream
    assert channels.axes["2.b.1.running_var", 0].tolist() == stream
    assert not set(stream) & set(channels.makes["1.a.0.weight"].tolist())


def test_a_gate_belongs_to_what_it_scales():
    channels = case("squeeze_excite")
    assert channels.makes["1.b.weight"].tolist() == channels.makes["1.dw.weight"].tolist()
    assert channels.makes["1.b.weight"].tolist() == channels.makes["1.up.weight"].tolist()


def test_joined_maps_stay_apart_and_a_view_reads_each_place():
    def forward(x, a, b, c):
        return c(torch.cat([a(x), b(x)], 1).flatten(1))

    model = Net(forward, a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(3, 3, 1), c=nn.Linear(5 * 4, 2))
    channels = trace(model, torch.randn(2, 3, 2, 2))
    made = channels.makes["layers.a.weight"].tolist() + channels.makes["layers.b.weight"].tolist()
    assert len(set(made)) == 5
    assert channels.reads["layers.c.weight"].tolist() == [group for group in made for _ in range(4)]
    assert not channels.fixed.keys() & set(made)


@pytest.mark.parametrize("name", ["next_block", "lstm", "patches", "encoder"])
def test_what_is_mixed_otherwise_has_to_stay_with_a_reason(name):
    channels = case(name)
    assert all(channels.fixed.values())
    first = {"next_block": "0.weight", "lstm": "part.out.weight", "patches": "qkv.weight"}.get(name)
    if first is not None:
        assert channels.fixed.keys() >= set(channels.makes[first].tolist())


def test_what_meets_the_input_has_to_stay_for_itself():
    channels = trace(Net(lambda x, a, b: b(x + a(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 2)), torch.randn(2, 4))
    made = channels.makes["layers.a.weight"].tolist()
    assert len(set(made)) == 4
    assert channels.fixed.keys() >= set(made)


def test_computed_weights_are_told_from_weights():
    class Standardized(nn.Conv2d):
        def forward(self, x):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias)

    channels = trace(nn.Sequential(Standardized(3, 4, 3), nn.Conv2d(4, 2, 1)), torch.randn(2, 3, 5, 5))
    assert "0.weight" in channels.computed
    assert "1.weight" not in channels.computed


class Biases(nn.Module):
    """Biases of each place from a table, by two layers; the numbers of tokens reach a third one."""

    def __init__(self):
        super().__init__()
        self.table = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 3))
        self.words, self.layer = nn.Embedding(9, 3), nn.Linear(3, 3)
        self.written, self.twice = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        table = self.twice(self.table(torch.linspace(0, 1, x.shape[1])[:, None]))
        part = torch.zeros(x.shape[0], x.shape[1], 3)
        part[:, 1:] = self.twice(self.layer(self.words(x)))[:, 1:]
        return self.written(part) + table


def test_layers_that_read_constants_alone_are_told():
    channels = trace(Biases(), torch.zeros(2, 5, dtype=torch.long))
    assert channels.still == {"table.0.weight", "table.2.weight"}


def test_a_recurrent_layer_of_one_step_reads_its_own_state():
    assert not trace(Net(lambda x, a: a(x)[0], a=nn.LSTM(4, 3, batch_first=True)), torch.randn(2, 1, 4)).still


def test_a_parameter_of_no_numbers_is_passed_over():
    """As the registers of a vision transformer that has none."""
    net = Net(lambda x, a: torch.cat([net.none.expand(2, -1, -1), a(x)], 1), a=nn.Linear(4, 3))
    net.none = nn.Parameter(torch.zeros(1, 0, 3))
    assert set(trace(net, torch.randn(2, 5, 4)).axes) == {("layers.a.weight", axis) for axis in (0, 1)} | {
        ("layers.a.bias", 0)
    }


@given(
    groups=st.sampled_from([1, 2, 4]),
    order=st.permutations(range(3)),
    parts=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_numbers_follow_values_through_views(groups, order, parts, seed):
    """The group that each input of the reader gets is that of the channel whose value really arrives there."""

    def move(x):
        x = x.view(len(x), groups, 8 // groups, 3)
        x = x.permute(0, *(axis + 1 for axis in order)).reshape(len(x), 24)
        pieces = x.chunk(parts, 1)
        return torch.cat(
            [pieces[index] for index in torch.randperm(parts, generator=torch.Generator().manual_seed(seed))], 1
        )

    model = Net(lambda x, a, b: b(move(a(x))), a=nn.Conv1d(2, 8, 1), b=nn.Linear(24, 2))
    channels = trace(model, torch.randn(2, 2, 3))
    made = channels.makes["layers.a.weight"].tolist()
    marked = move(torch.arange(8.0)[None, :, None].expand(1, 8, 3))[0].long().tolist()
    assert channels.reads["layers.b.weight"].tolist() == [made[channel] for channel in marked]


def test_an_operation_that_no_rule_knows_keeps_what_it_reads():
    model = Net(lambda x, a, b: b(torch.linalg.qr(a(x))[0]), a=nn.Linear(4, 3), b=nn.Linear(3, 2))
    channels = trace(model, torch.randn(5, 4))
    assert channels.fixed.keys() >= set(channels.makes["layers.a.weight"].tolist())
    assert outputs(channels) == {"layers.b.weight"}


def write_part(x, a):
    out = torch.zeros(2, 8, 8, 8)
    out[:, :4].add_(a(x))
    return out


def write_view(x, a):
    out = torch.zeros(2, 4, 8, 8)
    out.view(2, -1).add_(a(x).flatten(1))
    return out


@pytest.mark.parametrize("write", [write_part, write_view])
def test_what_is_written_into_a_part_of_a_tensor_has_to_stay(write):
    channels = trace(Net(write, a=nn.Conv2d(3, 4, 3, padding=1)), torch.randn(2, 3, 8, 8))
    assert channels.fixed.keys() >= set(channels.makes["layers.a.weight"].tolist())


@pytest.mark.parametrize(
    "function",
    [
        F.hardswish,
        F.logsigmoid,
        F.rrelu,
        lambda x: x + torch.zeros_like(x) + x.new_ones(4, 1, 1),
    ],
)
def test_what_works_element_by_element_holds_no_channel(function):
    model = Net(lambda x, a, b: b(function(a(x))), a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 2, 1))
    channels = trace(model, torch.randn(2, 3, 8, 8))
    made = channels.makes["layers.a.weight"].tolist()
    assert len(set(made)) == 4
    assert not channels.fixed.keys() & set(made)


def test_a_weight_that_is_read_both_ways_has_to_stay():
    def forward(x, first, a, middle):
        return F.linear(F.relu(middle(F.relu(a(F.relu(first(x)))))), a.weight.t())

    model = Net(forward, first=nn.Linear(5, 6), a=nn.Linear(6, 6), middle=nn.Linear(6, 6))
    channels = trace(model, torch.randn(2, 5))
    for name in ("first", "a", "middle"):
        assert channels.fixed.keys() >= set(channels.makes[f"layers.{name}.weight"].tolist())


def test_bytes_read_as_other_numbers_have_to_stay():
    model = Net(lambda x, a, b: b((a(x).view(torch.int32) & 1).float()), a=nn.Linear(4, 3), b=nn.Linear(3, 2))
    channels = trace(model, torch.randn(2, 4))
    assert channels.fixed.keys() >= set(channels.makes["layers.a.weight"].tolist())


def test_a_weight_that_an_unknown_operation_computes_with_is_no_weight():
    model = Net(lambda x, a, b: b(F.conv2d(x, a.weight.sort(1)[0])), a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 2, 1))
    channels = trace(model, torch.randn(2, 3, 5, 5))
    assert "layers.a.weight" in channels.computed and "layers.b.weight" not in channels.computed


def test_a_linear_layer_may_read_one_example_alone():
    model = Net(
        lambda x, a, b: torch.stack([b(F.relu(a(row))) for row in x]),
        a=nn.Linear(5, 8, bias=False),
        b=nn.Linear(8, 2, bias=False),
    )
    channels = trace(model, torch.randn(2, 5))
    made = channels.makes["layers.a.weight"].tolist()
    assert channels.reads["layers.b.weight"].tolist() == made and not channels.fixed.keys() & set(made)
    assert outputs(channels) == {"layers.b.weight"} and not channels.computed
