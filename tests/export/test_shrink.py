from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from edgeprune import tasks
from edgeprune.export.constancy import find_constants
from edgeprune.export.shrink import Shrunk, shrink
from edgeprune.task import Inputs, rows, tuple_of
from edgeprune.tasks import networks

USER_TASKS = Path(__file__).parents[1] / "user_tasks"
BUILT_IN = {
    "mlp": (lambda: networks.mlp((20, 30, 12, 4)), (20,)),
    "lenet5": (networks.lenet5, (1, 28, 28)),
    "resnet20": (networks.resnet20, (3, 32, 32)),
}


class Net(nn.Module):
    """`function(x, *layers)` as a module; layers are called a, b, c, ..."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in zip("abcdefgh", layers):
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.children())


def chain(x: Tensor, *layers: nn.Module) -> Tensor:
    """Layers with ReLU between them."""
    for layer in layers[:-1]:
        x = F.relu(layer(x))
    return layers[-1](x)


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Random biases and batch norms, so that a dead channel is no zero by accident."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if name in ("bias", "running_mean"):
                value.data.normal_(generator=random)
            if name == "running_var" or (name == "weight" and value.dim() == 1):
                value.data.uniform_(0.5, 2, generator=random)
    return model.eval()


def prune(model: nn.Module, seed: int, dead: float, density: float) -> dict[str, np.ndarray]:
    """Masks with a share of dead rows among unstructured zeros, applied to the model."""
    random = np.random.default_rng(seed)
    masks = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, _ConvNd)):
            shape = tuple(module.weight.shape)
            mask = random.random(shape) < density
            mask &= (random.random(shape[0]) >= dead).reshape(-1, *[1] * (len(shape) - 1))
            masks[f"{name}.weight"] = mask
            module.weight.data *= torch.from_numpy(mask)
    return masks


def kill(model: nn.Module, rows: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Masks of all layers in which only these rows are dead, applied to the model."""
    masks = prune(model, seed=0, dead=0, density=1)
    for name, indices in rows.items():
        masks[f"{name}.weight"][indices] = False
        model.get_submodule(name).weight.data[indices] = 0
    return masks


def assert_exact(model: nn.Module, shrunk: Shrunk, example: Inputs) -> None:
    """Equal outputs in float64 on inputs that shrink has not seen, and masks that fit the weights."""
    random = torch.Generator().manual_seed(9)
    count = 6 if all(tensor.is_floating_point() for tensor in tuple_of(example)) else 2
    inputs = [
        torch.randn((count, *one.shape[1:]), generator=random, dtype=torch.float64) if one.is_floating_point() else one
        for one in tuple_of(example)
    ]
    with torch.no_grad():
        expected = tree_leaves(copy.deepcopy(model).double()(*inputs))
        got = tree_leaves(copy.deepcopy(shrunk.model).double()(*inputs))
    for a, b in zip(got, expected, strict=True):
        # A bias that took over constants was rounded to float32 once.
        torch.testing.assert_close(a, b, rtol=0, atol=3e-7 * float(b.abs().max()))
    state = shrunk.model.state_dict()
    for name, mask in shrunk.masks.items():
        assert mask.shape == tuple(state[name].shape)
        assert not state[name].numpy()[~mask].any()


def architecture(name: str) -> tuple[nn.Module, Inputs]:
    torch.manual_seed(1)
    if name in BUILT_IN:
        make, shape = BUILT_IN[name]
        return make(), torch.randn(2, *shape)
    task = tasks.load(f"{USER_TASKS / name}.py:make").task
    return task.model(), rows(task.data(None).train.arguments, slice(2))


ARCHITECTURES = sorted([*BUILT_IN, *(path.stem for path in USER_TASKS.glob("*.py"))])


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000), dead=st.sampled_from([0.0, 0.4, 0.8]), density=st.sampled_from([0.1, 0.5, 1.0]))
def test_outputs_stay_the_same(name: str, seed: int, dead: float, density: float) -> None:
    model, example = architecture(name)
    masks = prune(randomize(model, seed), seed, dead, density)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    shrunk = shrink(model, masks, example)

    assert_exact(model, shrunk, example)
    assert not any("would change" in note or "no channel" in note for note in shrunk.notes)
    assert shrunk.masks.keys() == masks.keys()
    assert shrunk.weights_removed == sum(masks[key].size - shrunk.masks[key].size for key in masks)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    survivors = sum(int(mask.sum()) for mask in shrunk.masks.values())
    assert survivors <= sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dead_channels_shrink_every_architecture(name: str) -> None:
    model, example = architecture(name)
    masks = prune(randomize(model, 5), 5, dead=0.6, density=1)
    shrunk = shrink(model, masks, example)
    assert shrunk.weights_removed > 0.3 * sum(mask.size for mask in masks.values())


def test_nothing_is_removed_from_a_dense_network() -> None:
    model, example = architecture("residual")
    masks = prune(randomize(model, 1), 1, dead=0, density=1)
    shrunk = shrink(model, masks, example)
    assert (shrunk.removed, shrunk.weights_removed) == ({}, 0)
    assert_exact(model, shrunk, example)


def test_lenet5_loses_exactly_its_dead_filters_and_neurons_though_their_biases_are_not_zero() -> None:
    model = randomize(networks.lenet5(), 2)
    masks = kill(model, {"conv1": [3, 7, 8], "conv2": list(range(10, 30)), "fc1": list(range(200))})
    shrunk = shrink(model, masks, torch.randn(2, 1, 28, 28))
    assert shrunk.removed == {"conv1": 3, "conv2": 20, "fc1": 200}
    assert shrunk.model.get_submodule("conv2").weight.shape == (30, 17, 5, 5)
    assert shrunk.model.get_submodule("fc1").weight.shape == (300, 30 * 16)
    assert shrunk.model.get_submodule("output").weight.shape == (10, 300)
    assert_exact(model, shrunk, torch.randn(2, 1, 28, 28))


def test_with_short_fractions_as_weights_not_one_bit_changes() -> None:
    model = networks.lenet5()
    random = torch.Generator().manual_seed(6)
    for parameter in model.parameters():
        parameter.data = torch.randint(-8, 9, parameter.shape, generator=random) / 8
    masks = prune(model.eval(), 6, dead=0.4, density=0.5)
    shrunk = shrink(model, masks, torch.randn(2, 1, 28, 28))
    assert {"conv1", "conv2", "fc1"} == shrunk.removed.keys()
    inputs = torch.randint(-8, 9, (5, 1, 28, 28), generator=random).double() / 8
    with torch.no_grad():
        assert torch.equal(shrunk.model.double()(inputs), model.double()(inputs))


def convolutions(padding: int, bias: float) -> nn.Module:
    """Two convolutions, the second one padded; the first one's channels 0 and 1 will be dead with this bias."""
    model = randomize(Net(chain, nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3, padding=padding, bias=False)), 3)
    model.get_submodule("a").bias.data[:2] = bias
    return model


@pytest.mark.parametrize(("padding", "bias", "removed"), [(0, 0.7, 2), (1, 0.7, 0), (1, -0.7, 2), (1, 0.0, 2)], ids=str)
def test_a_constant_folds_unless_zero_padding_shows_where_the_border_is(
    padding: int, bias: float, removed: int
) -> None:
    model = convolutions(padding, bias)
    masks = kill(model, {"a": [0, 1]})
    shrunk = shrink(model, masks, torch.randn(2, 2, 8, 8))
    assert shrunk.removed.get("a", 0) == removed
    assert [note for note in shrunk.notes if "the zero padding of b" not in note] == []
    assert bool(shrunk.notes) == (removed == 0)
    made = shrunk.model.get_submodule("b").bias
    assert (made is not None) == (padding == 0), "a bias appears where a constant other than zero has to be taken over"
    assert_exact(model, shrunk, torch.randn(2, 2, 8, 8))


def test_reflected_padding_does_not_show_the_border() -> None:
    model = randomize(Net(chain, nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect")), 3)
    model.get_submodule("a").bias.data[:2] = 0.7
    shrunk = shrink(model, kill(model, {"a": [0, 1]}), torch.randn(2, 2, 8, 8))
    assert shrunk.removed == {"a": 2}
    assert_exact(model, shrunk, torch.randn(2, 2, 8, 8))


def test_padded_average_pooling_makes_a_constant_depend_on_its_place() -> None:
    model = Net(lambda x, a, b: b(F.avg_pool2d(F.relu(a(x)), 3, 1, 1)), nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3))
    randomize(model, 3).get_submodule("a").bias.data[:3] = torch.tensor([0.5, -0.5, 0.2])
    shrunk = shrink(model, kill(model, {"a": [0, 1, 2]}), torch.randn(2, 2, 8, 8))
    assert shrunk.removed == {"a": 1}


def test_a_channel_that_nothing_reads_goes_though_it_is_alive() -> None:
    model = randomize(Net(chain, nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3, padding=1)), 3)
    masks = kill(model, {})
    masks["b.weight"][:, [1, 4]] = False
    model.get_submodule("b").weight.data[:, [1, 4]] = 0
    shrunk = shrink(model, masks, torch.randn(2, 2, 8, 8))
    assert shrunk.removed == {"a": 2}
    assert_exact(model, shrunk, torch.randn(2, 2, 8, 8))


def test_removal_goes_on_until_nothing_changes() -> None:
    model = randomize(Net(chain, *(nn.Linear(6, 6) for _ in range(4)), nn.Linear(6, 3)), 4)
    masks = kill(model, {"a": [0]})
    for name in "bcd":
        # Neuron 0 reads only neuron 0 of the layer before, so each dies with the one before it.
        masks[f"{name}.weight"][0, 1:] = False
        model.get_submodule(name).weight.data[0, 1:] = 0
    shrunk = shrink(model, masks, torch.randn(2, 6))
    assert shrunk.removed == dict.fromkeys("abcd", 1)
    assert_exact(model, shrunk, torch.randn(2, 6))


def test_one_channel_always_stays() -> None:
    model = randomize(Net(chain, nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)), 4)
    masks = kill(model, {"a": list(range(5)), "b": list(range(4))})
    shrunk = shrink(model, masks, torch.randn(2, 6))
    assert shrunk.removed == {"a": 4, "b": 3}
    assert_exact(model, shrunk, torch.randn(2, 6))


def test_a_neuron_that_is_silent_on_the_examples_alone_stays() -> None:
    model = randomize(Net(chain, nn.Linear(6, 5), nn.Linear(5, 3)), 4)
    model.get_submodule("a").bias.data[2] = -1e4
    shrunk = shrink(model, kill(model, {}), torch.randn(2, 6))
    assert shrunk.removed == {}


def test_a_residual_channel_goes_only_with_all_that_make_it() -> None:
    def forward(x: Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> Tensor:
        x = a(x)
        return c(F.relu(x + b(F.relu(x))))

    model = randomize(Net(forward, nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 3)), 4)
    masks = kill(model, {"a": [0, 1, 2], "b": [2, 3]})
    shrunk = shrink(model, masks, torch.randn(2, 2, 8, 8))
    assert shrunk.removed == {"a": 1, "b": 1}
    assert_exact(model, shrunk, torch.randn(2, 2, 8, 8))


def test_a_zero_times_a_living_gate_is_a_zero() -> None:
    def forward(x: Tensor, a: nn.Module, gate: nn.Module, b: nn.Module) -> Tensor:
        x = F.relu(a(x))
        return b(x * F.hardsigmoid(gate(F.adaptive_avg_pool2d(x, 1))))

    model = randomize(Net(forward, nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 3, padding=1)), 4)
    model.get_submodule("a").bias.data[:2] = torch.tensor([-0.3, 0.3])
    shrunk = shrink(model, kill(model, {"a": [0, 1]}), torch.randn(2, 2, 8, 8))
    assert shrunk.removed == {"a": 1, "b": 1}
    assert_exact(model, shrunk, torch.randn(2, 2, 8, 8))


def test_a_depthwise_convolution_passes_zeros_on() -> None:
    layers = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 3, 3, padding=1)
    model = randomize(Net(chain, *layers), 4)
    for name in "ab":
        model.get_submodule(name).bias.data[:] = -0.1
    shrunk = shrink(model, kill(model, {"a": [1, 5]}), torch.randn(2, 2, 8, 8))
    assert shrunk.removed == {"a": 2, "b": 2}
    assert shrunk.model.get_submodule("b").groups == 4
    assert_exact(model, shrunk, torch.randn(2, 2, 8, 8))


def test_grouped_convolutions_lose_equally_many_channels_in_each_group() -> None:
    model = randomize(Net(chain, nn.Conv2d(2, 8, 3), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(12, 3, 3)), 4)
    masks = kill(model, {"a": [0, 2, 3, 5, 7], "b": [0, 1, 2, 11]})
    shrunk = shrink(model, masks, torch.randn(2, 2, 12, 12))
    assert shrunk.removed == {"a": 4, "b": 2}
    assert shrunk.model.get_submodule("b").weight.shape == (10, 2, 3, 3)
    assert_exact(model, shrunk, torch.randn(2, 2, 12, 12))


def test_channels_of_the_output_stay() -> None:
    model = randomize(Net(lambda x, a, b: (b(F.relu(a(x))), F.relu(a(x))), nn.Linear(6, 5), nn.Linear(5, 3)), 4)
    shrunk = shrink(model, kill(model, {"a": [0], "b": [1]}), torch.randn(2, 6))
    assert shrunk.removed == {}
    assert shrunk.notes == tuple(f"{name}: 1 dead channel stays: it is an output of the network" for name in "ab")


def normalised(x: Tensor, a: nn.Module, norm: nn.Module, b: nn.Module) -> Tensor:
    return b(norm(a(x)))


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.Softmax(dim=1)], ids=lambda n: type(n).__name__
)
def test_channels_that_are_normalised_together_stay(norm: nn.Module) -> None:
    model = randomize(Net(normalised, nn.Linear(4, 6), norm, nn.Linear(6, 3)), 4)
    shrunk = shrink(model, kill(model, {"a": [0, 1]}), torch.randn(2, 4))
    assert shrunk.removed == {}
    assert_exact(model, shrunk, torch.randn(2, 4))


def shuffled(x: Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> Tensor:
    x = F.relu(a(x))
    x = x.view(len(x), 2, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
    return c(F.relu(b(x)))


def test_a_shuffle_loses_the_same_places_of_each_half() -> None:
    model = randomize(Net(shuffled, nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 3, 3)), 4)
    shrunk = shrink(model, kill(model, {"a": [0, 1, 5], "b": [0, 1]}), torch.randn(2, 2, 9, 9))
    assert shrunk.removed == {"a": 2, "b": 2}  # 1 and 5 lie at one place of both halves
    assert [note.split(":")[0] for note in shrunk.notes] == ["a"]
    assert_exact(model, shrunk, torch.randn(2, 2, 9, 9))


def counting(x: Tensor, a: nn.Module, b: nn.Module, c: nn.Module) -> Tensor:
    """Code that counts on a number of channels, and raises something of its own."""
    x = F.relu(a(x))
    if 8 // (x.shape[1] - 6) != 4:
        raise ArithmeticError
    return c(F.relu(b(x)))


def test_what_the_networks_own_code_does_not_bear_is_undone_and_the_rest_kept() -> None:
    model = randomize(Net(counting, nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 3, 3)), 4)
    shrunk = shrink(model, kill(model, {"a": [0, 1], "b": [0, 1]}), torch.randn(2, 2, 9, 9))
    assert shrunk.removed == {"b": 2}
    assert shrunk.notes == ("a: 2 dead channels stay: removing it would change the outputs",)
    assert_exact(model, shrunk, torch.randn(2, 2, 9, 9))


def recurrent(x: Tensor, a: nn.Module, lstm: nn.Module, b: nn.Module) -> Tensor:
    return b(lstm(a(x))[0])


def test_what_a_recurrent_layer_reads_goes_where_it_is_zero_and_stays_where_it_is_another_constant() -> None:
    model = randomize(Net(recurrent, nn.Linear(4, 6), nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)), 4)
    masks = kill(model, {"a": [0, 1]})
    with torch.no_grad():
        model.get_parameter("a.bias")[0] = 0
    shrunk = shrink(model, masks, torch.randn(2, 7, 4))
    assert (shrunk.removed, shrunk.weights_removed) == ({"a": 1}, 4)
    assert shrunk.notes == ("a: 1 dead channel stays: b needs it, or what has to leave with it",)
    assert_exact(model, shrunk, torch.randn(2, 7, 4))


def stacked(x: Tensor, rnn: nn.Module, b: nn.Module) -> Tensor:
    return b(rnn(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_unit_goes_when_nothing_moves_it_and_each_direction_loses_equally_many(kind: Any) -> None:
    rnn = kind(4, 6, num_layers=2, bidirectional=True, batch_first=True)
    model = randomize(Net(stacked, rnn, nn.Linear(12, 3)), 4)
    masks = {name: np.ones(value.shape, np.bool_) for name, value in model.named_parameters() if value.dim() > 1}
    gates = len(rnn.weight_hh_l0) // 6
    for ending, units in {"l0": [1, 2], "l0_reverse": [0, 5], "l1": [3, 4, 5], "l1_reverse": [0, 1]}.items():
        rows = [gate * 6 + unit for gate in range(gates) for unit in units]
        for name, value in rnn.named_parameters():
            if name.partition("_")[2].partition("_")[2] == ending:
                value.data[rows] = 0
                if value.dim() > 1:
                    masks[f"a.{name}"][rows] = False
    shrunk = shrink(model, masks, torch.randn(2, 7, 4))
    assert shrunk.removed == {"a": 2}
    [note] = [note for note in shrunk.notes if note.startswith("a: ")][:1]
    assert "parts of a tensor have to stay equally long" in note
    assert shrunk.model.get_parameter("a.weight_ih_l1").shape == (4 * gates, 8)
    assert_exact(model, shrunk, torch.randn(2, 7, 4))


def test_a_unit_with_a_bias_stays_since_it_moves_by_itself() -> None:
    model = randomize(Net(stacked, nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)), 4)
    masks = {name: np.ones(value.shape, np.bool_) for name, value in model.named_parameters() if value.dim() > 1}
    for local in ("weight_ih_l0", "weight_hh_l0"):
        model.get_parameter(f"a.{local}").data[[0, 6, 12, 18]] = 0
        masks[f"a.{local}"][[0, 6, 12, 18]] = False
    shrunk = shrink(model, masks, torch.randn(2, 7, 4))
    assert shrunk.removed == {}
    assert_exact(model, shrunk, torch.randn(2, 7, 4))


def test_a_network_that_cannot_be_followed_comes_back_whole_with_the_reason() -> None:
    def forward(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        if x.dtype == torch.float64:
            raise KeyError("float32 only")
        return b(a(x))

    model = randomize(Net(forward, nn.Linear(4, 6), nn.Linear(6, 3)), 4)
    shrunk = shrink(model, kill(model, {"a": [0, 1]}), torch.randn(2, 4))
    assert shrunk.removed == {}
    assert shrunk.notes == ("no channel was removed: the network cannot be followed (KeyError: 'float32 only')",)


def test_a_layer_used_twice_is_not_cut_on_one_side_alone() -> None:
    model = randomize(
        Net(lambda x, a, b, c: c(F.relu(b(F.relu(b(F.relu(a(x))))))), *(nn.Linear(6, 6) for _ in "abc")), 4
    )
    shrunk = shrink(model, kill(model, {"a": [0, 1], "b": [1, 2]}), torch.randn(2, 6))
    assert shrunk.model.get_submodule("b").weight.shape[0] == shrunk.model.get_submodule("b").weight.shape[1]
    assert_exact(model, shrunk, torch.randn(2, 6))


def test_layers_that_share_a_weight_go_on_sharing_it() -> None:
    model = randomize(Net(chain, *(nn.Linear(6, 6) for _ in "abc"), nn.Linear(6, 2)), 4)
    model.get_submodule("c").weight = model.get_submodule("b").weight
    shrunk = shrink(model, kill(model, {"a": [0], "b": [1, 2]}), torch.randn(2, 6))
    assert shrunk.model.get_submodule("c").weight is shrunk.model.get_submodule("b").weight
    assert_exact(model, shrunk, torch.randn(2, 6))


def test_integer_inputs_pass_through_an_embedding() -> None:
    def forward(x: Tensor, words: nn.Module, a: nn.Module, b: nn.Module) -> Tensor:
        return b(F.relu(a(words(x).mean(1))))

    model = randomize(Net(forward, nn.Embedding(10, 6), nn.Linear(6, 8), nn.Linear(8, 3)), 4)
    example = torch.randint(10, (2, 7))
    shrunk = shrink(model, kill(model, {"b": [0, 1]}), example)
    assert shrunk.removed == {"b": 2}
    assert_exact(model, shrunk, example)


def test_constants_are_found_behind_every_kind_of_layer_between() -> None:
    def forward(x: Tensor, a: nn.Module, norm: nn.Module, c: nn.Module) -> Tensor:
        return c(F.max_pool2d(F.hardswish(norm(a(x))), 3, 2, 1).mean((2, 3)))

    model = randomize(Net(forward, nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, 3)), 4).double()
    kill(model, {"a": [1, 4]})
    constants = find_constants(model, torch.randn(2, 2, 8, 8, dtype=torch.float64))
    assert torch.isfinite(constants["c"]).tolist() == [False, True, False, False, True, False]
    seen = []
    model.get_submodule("c").register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    model(torch.randn(2, 2, 8, 8, dtype=torch.float64))
    torch.testing.assert_close(seen[0][:, [1, 4]], constants["c"][[1, 4]].expand(2, 2))


def test_dead_channels_go_in_whole_groups_of_four_where_asked() -> None:
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    dead = [0, 4, 5, 6, 7, 9]  # one whole group, 4 to 7
    with torch.no_grad():
        model[2].weight[:, dead] = 0
    masks = {"0.weight": np.ones((12, 6), bool), "2.weight": model[2].weight.detach().numpy() != 0}
    example = torch.randn(2, 6)
    assert shrink(model, masks, example, together=4).removed == {"0": 4}
    assert shrink(model, masks, example).removed == {"0": len(dead)}
