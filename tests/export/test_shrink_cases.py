"""The channel pattern from find's masks to the shrunk network, over the networks of the cases and others: outputs stay,
what was pruned is gone, and what stays is told."""

from __future__ import annotations

import copy
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
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.export.shrink import Shrunk, shrink
from edgeprune.export.tracing import trace
from edgeprune.find.pruning import make_pruner
from edgeprune.patterns import load

CASES = Path(__file__).parents[1] / "cases" / "networks.py"


def networks() -> Any:
    if "cases_networks" not in sys.modules:
        found = importlib.util.spec_from_file_location("cases_networks", CASES)
        assert found is not None and found.loader is not None
        sys.modules["cases_networks"] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules["cases_networks"])
    return sys.modules["cases_networks"]


class UNet(nn.Module):
    """Two scales, the larger one joined to what comes up from the smaller one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, 2, 1)
        self.norm = nn.BatchNorm2d(12)
        self.up, self.c = nn.ConvTranspose2d(12, 8, 2, 2), nn.Conv2d(16, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = F.relu(self.a(x))
        low = F.relu(self.norm(self.b(kept)))
        return torch.sigmoid(self.out(F.relu(self.c(torch.cat([kept, self.up(low)], 1)))))


class Nested(nn.Module):
    """A stream inside a stream, of which half of the channels goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.outer, self.inner, self.deep = (nn.Conv2d(12, 12, 3, padding=1) for _ in range(3))
        self.heads = nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 2)])

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = F.relu(self.first(x))
        y = F.relu(self.outer(x))
        y = y + F.relu(self.deep(F.relu(y + self.inner(y))))
        a, b = (x + y).mean((2, 3)).chunk(2, 1)
        return {"a": self.heads[0](a), "b": [self.heads[1](b)]}


class Recurrent(nn.Module):
    """Convolutions over time, then an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 6, 3, padding=1)
        self.rnn, self.out = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(F.relu(self.b(F.relu(self.a(x)))).transpose(1, 2))[0][:, -1])


class Encoder(nn.Module):
    """A transformer's encoder, whose heads are channels of its attention; the stream is normalised, and stays."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, activation="gelu")
        self.a, self.out = nn.Linear(12, 16), nn.Linear(16, 3)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
        return self.out(self.encoder(self.a(x), mask=mask).mean(1))


class Gated(nn.Module):
    """A gated unit, grouped and depthwise convolutions with a multiplier, a learned scale, PReLU, InstanceNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.deep = nn.Conv2d(3, 16, 3), nn.Conv2d(8, 16, 3, groups=8)
        self.grouped, self.norm = nn.Conv2d(16, 12, 3, groups=2), nn.InstanceNorm2d(12, affine=True)
        self.scale, self.act, self.out = nn.Parameter(torch.rand(12, 1, 1)), nn.PReLU(12), nn.Linear(12 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(F.glu(self.a(x), 1))
        x = self.act(self.norm(self.grouped(F.silu(x))) * self.scale)
        return self.out(F.adaptive_avg_pool2d(x, 2).flatten(1))


OTHERS = {"u_net": UNet, "nested": Nested, "recurrent": Recurrent, "encoder": Encoder, "gated": Gated}
WHOLE = ("residual", "heads", "decoder", "detector", "super_resolution", "volumes", "u_net", "recurrent")
IN_PART = ("shuffled", "next_block", "patches", "norms", "squeeze_excite", "grouped_up", "nested", "encoder", "gated")


def network(name: str) -> tuple[nn.Module, Tensor]:
    if name in OTHERS:
        flat = name in ("recurrent", "encoder")
        return OTHERS[name](), torch.randn(4, 3, 12) if flat else torch.randn(4, 3, 12, 12)
    task = getattr(networks(), name)()
    model, example = task.model(), task.data(None).train.inputs[:4]
    return model, example[..., :32, :32] if name == "detector" else example


def pruned(name: str, seed: int, density: float) -> tuple[nn.Module, Tensor, dict[str, np.ndarray], Shrunk]:
    torch.manual_seed(seed)
    model, example = network(name)
    for value in [*model.parameters(), *model.buffers()]:
        if value.dim() == 1:
            value.data.uniform_(0.2, 1)  # nothing is dead by accident
    model.eval()
    pruner = make_pruner(model, example[:2], None, load("channel"), "layer")
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    first = pruner.first(weights, revive=False)
    mask = pruner.prune(weights, first, first, [1 - density])
    for key, array in {**mask, **pruner.silent(mask)}.items():
        model.get_parameter(key).data *= torch.from_numpy(np.array(array))
    masks = {key: np.array(array) for key, array in mask.items()}
    return model, example, masks, shrink(model, masks, example[:2])


def outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [
            leaf for leaf in tree_leaves(copy.deepcopy(model).double()(inputs.double())) if isinstance(leaf, Tensor)
        ]


@pytest.mark.parametrize("name", [*WHOLE, *IN_PART])
@settings(max_examples=2)
@given(seed=st.integers(0, 50), density=st.sampled_from([0.35, 0.6]))
def test_outputs_stay_and_none_of_their_channels_is_constant(name: str, seed: int, density: float) -> None:
    model, example, masks, shrunk = pruned(name, seed, density)
    expected, got = outputs(model, example), outputs(shrunk.model, example)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=3e-7 * float(b.abs().max()))
        # The channels of these outputs lie on axis 1, or on the last one.
        axis = -1 if name in ("detector", "patches") else 1
        assert bool((b.movedim(axis, 0).flatten(1).std(1) > 0).all())
    assert not any("no channel was removed" in note or "would change" in note for note in shrunk.notes)
    for key, mask in shrunk.masks.items():
        assert mask.shape == tuple(shrunk.model.get_parameter(key).shape)
    assert shrunk.weights_removed == sum(masks[key].size - mask.size for key, mask in shrunk.masks.items())


@pytest.mark.parametrize("name", WHOLE)
def test_every_pruned_channel_is_gone(name: str) -> None:
    _, _, masks, shrunk = pruned(name, 3, 0.5)
    assert shrunk.notes == ()
    assert shrunk.removed
    assert all(mask.all() for mask in shrunk.masks.values())
    assert sum(mask.size for mask in shrunk.masks.values()) < 0.6 * sum(mask.size for mask in masks.values())


def test_a_stream_loses_half_of_its_channels_in_each_layer() -> None:
    _, _, _, shrunk = pruned("residual", 0, 0.5)
    assert {shrunk.removed[name] for name in ("0.0", "1.b.0", "2.b.0", "3.b.0")} == {8}


def test_a_decoder_loses_channels_on_both_sides_of_its_bottleneck() -> None:
    _, _, _, shrunk = pruned("decoder", 0, 0.5)
    assert shrunk.removed.keys() == {"0.0", "1.0", "2", "3", "5"}


def test_an_encoder_loses_half_of_its_heads_and_can_be_exported() -> None:
    _, example, _, shrunk = pruned("encoder", 0, 0.5)
    assert {shrunk.removed[f"encoder.layers.{layer}.self_attn"] for layer in range(2)} == {2}
    assert shrunk.model.get_parameter("encoder.layers.1.self_attn.out_proj.weight").shape == (16, 8)
    assert set(trace(shrunk.model, example[:2], shrunk.masks).weights) == set(shrunk.masks)


def test_a_shuffled_network_is_shrunk_and_what_stays_is_told() -> None:
    _, _, masks, shrunk = pruned("shuffled", 0, 0.5)
    assert shrunk.weights_removed > 0.3 * sum(mask.size for mask in masks.values())
    told = sum(int(note.split(": ")[1].split()[0]) for note in shrunk.notes)
    stay = sum(int((~mask.reshape(len(mask), -1).any(1)).sum()) for mask in shrunk.masks.values())
    assert told == stay > 0
