"""Kernels chosen by measured times: what the times decide, that they are kept, and that no result changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune import ExportError, kernels, load_target
from edgeprune.export import export
from edgeprune.export.files import own_architecture
from edgeprune.export.graph import Graph
from edgeprune.export.reading import read_graph
from edgeprune.export.sparse import clock, rewrite, stock
from edgeprune.export.sparse.clock import Clock
from edgeprune.kernels import costs
from edgeprune.options import ExportOptions
from tests.export.forms import pairs
from tests.export.sparse_graphs import Builder, run_library, run_stock, to_int8

WINDOW = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1]}
LIBRARY = kernels.library(own_architecture())
COSTS = costs.load("x86_64")


def network(precision: str) -> Graph:
    """Two convolutions with a depthwise one between them; of the first a tenth is left, of the last a half."""
    builder = Builder([32, 8, 8], 1)
    x = builder.conv("input", 32, WINDOW, "block:1x4", 0.1)
    x = builder.conv(builder.node("Relu", [x], [32, 8, 8]), 32, WINDOW, "unstructured", 1.0, group=32)
    builder.output(builder.conv(builder.node("Relu", [x], [32, 8, 8]), 32, WINDOW, "block:1x4", 0.5))
    x = np.random.default_rng(1).normal(size=(8, 32, 8, 8)).astype(np.float32)
    return read_graph(builder.model()) if precision == "fp32" else to_int8(builder.model(), x)


@dataclass(frozen=True)
class Told(Clock):
    """A clock that is told what it reads; network_ns: with the runtime's own kernels, with those that the layers' times
    speak for, and with the library's wherever there are any."""

    layer_ns: Any = None
    network_ns: Any = (1000.0, 500.0, 2000.0)
    asked: Any = None

    def layers(self, graph: Graph) -> Any:
        if self.asked is not None:
            self.asked.append(graph.precision)
        return self.layer_ns

    def networks(self, models: Any) -> list[float]:
        stock, by_layers, whole = self.network_ns
        rest = len(models) - 1
        return [stock, *[by_layers] * (rest > 3), *[whole] * min(rest, 3)]


def times(first: float, last: float, dense: float = 50_000.0) -> dict[str, dict[str, float]]:
    """Of the sparse kernels of the first and the last layer, in every format."""
    return {
        name: {"dense": dense, **dict.fromkeys(costs.FORMATS["fp32"], ours)}
        for name, ours in (("c0", first), ("c4", last))
    }


def test_measured_times_decide_against_the_model(tmp_path: Path) -> None:
    model = network("fp32")
    assert [layer.kernel for layer in rewrite(model, COSTS).layers if layer.name == "c0"] == ["sparse"]
    slow, kept = Told(LIBRARY, tmp_path / "a", times(60_000.0, 60_000.0)).choose(model, COSTS)
    assert not slow.needs_library and kept.chosen_ns > kept.stock_ns
    fast, _ = Told(LIBRARY, tmp_path / "b", times(600_000.0, 5_000.0)).choose(model, COSTS)
    found = {layer.name: layer for layer in fast.layers}
    assert (found["c0"].kernel, found["c4"].kernel, found["c4"].predicted_gain) == ("dense", "sparse", 10.0)
    assert found["c4"].why.startswith("sparse block:1x4: measured 10.0x")


def test_a_network_that_is_slower_as_a_whole_keeps_the_runtimes_own_kernels(tmp_path: Path) -> None:
    model = network("fp32")
    told = Told(LIBRARY, tmp_path, times(5_000.0, 5_000.0), (800_000.0, 830_000.0, 9e6))
    chosen, kept = told.choose(model, COSTS)
    assert not chosen.needs_library and chosen.model == stock(model).model
    assert (kept.stock_ns, kept.chosen_ns) == (800_000, 830_000)
    first = next(layer for layer in chosen.layers if layer.name == "c0")
    assert (first.kernel, first.pattern, first.predicted_gain) == ("dense", "", 1.0)
    assert first.why == "dense: measured as a whole, the network takes 830 µs with sparse kernels and 800 µs without"


def test_the_librarys_kernels_throughout_are_taken_where_that_network_is_the_fastest(tmp_path: Path) -> None:
    """Two layers that gain nothing alone may do without a change of layout between them."""
    told = Told(LIBRARY, tmp_path, times(48_000.0, 40_000.0), (1000.0, 990.0, 700.0))
    chosen, kept = told.choose(network("fp32"), COSTS)
    assert (kept.chosen_ns, kept.network) == (700, "block:1x4")
    why = {layer.name: layer.why for layer in chosen.layers}
    assert why["c4"] == "sparse block:1x4: measured 1.2x, in the network that was measured as the fastest"
    assert [layer.kernel for layer in chosen.layers if layer.name != "c2"] == ["sparse", "sparse"]


def two_products() -> Graph:
    """Over tokens, a tenth of each left: one operator, which is named as the second."""
    builder = Builder([32, 64], 1)
    x = builder.matmul("input", 256, "block:4x1", 0.1, "behind")
    builder.output(builder.matmul(builder.node("Relu", [x], [32, 256]), 64, "block:4x1", 0.1, "behind"))
    return read_graph(builder.model())


@pytest.mark.parametrize("fastest", ["stock", "layers", "whole"])
def test_two_products_are_timed_in_one_operator_and_recorded_as_two_layers(fastest: str, tmp_path: Path) -> None:
    graph = two_products()
    names = list(graph.layers.values())
    spent = {name: {"dense": 50_000.0, **dict.fromkeys(costs.FORMATS["fp32"], 10_000.0)} for name in names}
    network_ns = tuple(1000.0 if name == fastest else 2000.0 for name in ("stock", "layers", "whole"))
    chosen, _ = Told(LIBRARY, tmp_path, spent, network_ns).choose(graph, COSTS)
    ours = [node.op_type for node in chosen.model.graph.node if node.domain]
    assert ours == ([] if fastest == "stock" else ["SparseMlp"]) and chosen.needs_library == bool(ours)
    assert [layer.name for layer in chosen.layers] == names
    for layer in chosen.layers:
        assert (layer.kernel, layer.predicted_gain) == (("sparse", 5.0) if ours else ("dense", 1.0))
        assert ("measured 5.0x" if ours else "measured as a whole") in layer.why


def test_what_the_profile_adds_to_each_kernel_is_taken_off() -> None:
    """Ten kernels of 12 us each, of an inference that takes 20 us without a profile: 10 us are the profile's."""
    events = {f"n{index}": [12] * 20 for index in range(10)}
    extra = clock.profile_extra(events, 20_000.0)
    assert extra == pytest.approx(10_500)
    assert clock.fast_ns([12] * 20, 20, extra) == 2000 and clock.fast_ns([3] * 20, 20, extra) > 0
    assert clock.profile_extra(events, 1e9) == 0


def test_what_was_measured_is_kept_and_read_again_unless_it_is_damaged(tmp_path: Path) -> None:
    asked: list[str] = []
    told = Told(LIBRARY, tmp_path, times(5_000.0, 60_000.0), (1000.0, 500.0, 2000.0), asked)
    first = told.choose(network("fp32"), COSTS)[0].layers
    again = Told(LIBRARY, tmp_path, times(60_000.0, 60_000.0), (1000.0, 2000.0, 2000.0), asked)
    assert again.choose(network("fp32"), COSTS)[0].layers == first and asked == ["fp32"]
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    assert again.choose(network("fp32"), COSTS)[0].layers != first and len(asked) == 2
    told.choose(network("int8"), COSTS)
    assert len(asked) == 3 and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_kernel_of_every_layer_is_timed_and_results_stay(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.export.sparse.clock.SECONDS", 0.0)
    model = network(precision)
    chosen, kept = Clock(LIBRARY, tmp_path).choose(model, COSTS)
    formats = {"dense", *costs.FORMATS[precision]}
    assert {name: set(each) for name, each in kept.layers.items()} == {
        "c0": formats, "c2": {"dense", "own"}, "c4": formats,
    }  # fmt: skip
    assert all(spent > 0 for each in kept.layers.values() for spent in each.values())
    assert "onnxruntime" in kept.machine and "1 thread" in kept.machine
    x = np.random.default_rng(4).normal(size=(3, 32, 8, 8)).astype(np.float32)
    for mine, theirs in zip(run_library(chosen.model, x), run_stock(pairs(model, unsigned=True), x)):
        np.testing.assert_allclose(mine, theirs, atol=1e-4 if precision == "fp32" else 0.1)


@pytest.mark.parametrize(
    ("target", "runtime", "message"),
    [
        ("other", None, "this machine, which is .*, but target other is .*; export on a machine of that architecture"),
        ("local", "litert", "chooses kernels for onnxruntime, and only litert is exported; leave --measure out"),
    ],
)
def test_what_this_machine_says_nothing_about_is_refused(
    target: str, runtime: Any, message: str, tmp_path: Path
) -> None:
    if target == "other":
        target = "rpi4" if own_architecture() == "x86_64" else "local"
        message = message.replace("target other", f"target {target}")
    with pytest.raises(ExportError, match=message):
        next(export(None, load_target(target), ExportOptions(runtime=runtime, measure=True), None, tmp_path))
