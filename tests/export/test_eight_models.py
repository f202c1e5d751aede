"""Nine models that the package never names go from a user's task file through every runtime and precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeprune import Ticket, load, load_target, tasks
from edgeprune.artifact import to_file_layout, to_torch_layout
from edgeprune.export import export
from edgeprune.export.network import load_network, reload_data, reload_task
from edgeprune.find import RunFinished, find_levels, prepare
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.task import rows
from edgeprune.tasks.evaluation import outputs_of

FOLDER = Path(__file__).parents[1] / "user_tasks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def found(name, out, steps=None, **options):
    """A ticket of a model; steps: of a training, fewer than its recipe says, where nothing need be learned."""
    chosen = {"levels": 1, "rates": (0.4,), "seeds": (1,), "threads": 1, **options}
    loaded = tasks.load(f"{FOLDER / name}.py:make")
    if steps:
        recipe = replace(loaded.task.recipe, iterations=steps)
        loaded = replace(loaded, task=replace(loaded.task, recipe=recipe))
    problem = prepare(loaded, FindOptions(**chosen), None)
    events = list(find_levels(problem, out))
    assert isinstance(events[-1], RunFinished)
    return events[-1].ticket


@pytest.fixture(scope="module", params=NAMES)
def exported(request, tmp_path_factory):
    """A ticket of one of the models and its bundles for all four cells."""
    out = tmp_path_factory.mktemp(request.param)
    ticket = found(request.param, out)
    return ticket, list(export(ticket, load_target("local"), ExportOptions(), None, out))


def test_there_are_nine():
    assert len(NAMES) == 9


def test_all_four_cells_hold_parity_and_every_zero(exported):
    ticket, artifacts = exported
    bundles = {(each.runtime, each.precision): each for each in artifacts if each.variant == "ticket"}
    assert set(bundles) == {
        (runtime, precision) for runtime in ("onnxruntime", "litert") for precision in ("fp32", "int8")
    }
    pruned = ticket.mask(1).total - ticket.mask(1).nonzero
    for (_, precision), artifact in bundles.items():
        assert artifact.zeros_lost == 0
        assert set(artifact.zeros) == set(ticket.mask(1))
        # Every pruned weight is a certified zero in the file, or left with a channel that was removed.
        assert pruned - artifact.weights_removed <= sum(zeros.expected for zeros in artifact.zeros.values()) <= pruned
        if precision == "fp32":
            assert artifact.parity_max_abs <= 1e-4 * artifact.parity_scale
            assert abs(artifact.metric_runtime - artifact.metric_torch) <= 0.0005
            assert all(zeros.gained == 0 for zeros in artifact.zeros.values())
        else:
            assert artifact.parity_max_abs <= 0.25 * artifact.parity_scale
            assert artifact.metric_torch - artifact.metric_runtime <= 0.01
        assert len(artifact.signals) == (len(artifact.outputs) if precision == "int8" else 0)
        assert all(signal.db >= max(15, signal.minmax_db - 3.5) for signal in artifact.signals)


def test_both_runtimes_carry_the_same_int8_model(exported):
    ticket, artifacts = exported
    data = reload_data(ticket, reload_task(ticket), None)
    inputs = rows(data.validation.arrays, slice(32))
    outputs = {}
    for artifact in artifacts:
        if artifact.variant == "ticket" and artifact.precision == "int8":
            result = load(artifact.path)(*inputs)
            outputs[artifact.runtime] = result if isinstance(result, tuple) else (result,)
    for mine, theirs in zip(outputs["onnxruntime"], outputs["litert"]):
        steps = np.unique(np.concatenate([mine.ravel(), theirs.ravel()]))
        quantum = np.diff(steps)[np.diff(steps) > 1e-6].min()
        apart = np.abs(mine - theirs) / quantum
        assert np.quantile(apart, 0.95) <= 3.01, np.quantile(apart, [0.5, 0.95, 1])


def test_the_expected_outputs_are_those_of_the_masked_pytorch_model(exported):
    ticket, artifacts = exported
    task = reload_task(ticket)
    data = reload_data(ticket, task, None)
    network = load_network(task, ticket.weights(1))
    inputs = rows(data.validation.arguments, slice(16))
    expected = outputs_of(network, inputs, "test")
    for artifact in artifacts:
        if artifact.variant == "ticket":
            probes = artifact.probes()
            for index, (output, port) in enumerate(zip(expected, artifact.outputs)):
                assert np.allclose(to_torch_layout(probes[f"output_{index}"], port), output, atol=1e-6)
            for tensor, port, given in zip(inputs, artifact.inputs, artifact.probe_inputs(), strict=True):
                assert np.array_equal(given, to_file_layout(tensor.numpy(), port))


def test_every_tflite_runs_alike_in_the_other_interpreters(exported, other_interpreter):
    _, artifacts = exported
    for artifact in artifacts:
        if artifact.runtime != "litert" or artifact.variant != "ticket":
            continue
        probes = artifact.probe_inputs()
        mine = load(artifact.path).run_file_layout(*probes)
        theirs = other_interpreter.run(artifact.model_path.read_bytes(), *probes)
        for here, there in zip(mine, theirs):
            scale = np.abs(here).max()
            # int8: kernels of different versions round a tie differently.
            allowed = 1e-5 * scale if artifact.precision == "fp32" else 0.03 * scale
            assert np.abs(here - there).max() <= allowed, artifact.path.name


@pytest.mark.parametrize("name", ["residual", "grouped_depthwise", "mlp", "audio1d"])
def test_the_channel_pattern_leaves_smaller_models(name, tmp_path):
    ticket = found(name, tmp_path, steps=12, pattern="channel")
    options = ExportOptions(runtime="onnxruntime", precision="fp32")
    twin, artifact = export(ticket, load_target("local"), options, None, tmp_path)
    assert artifact.weights_removed > 0 and sum(artifact.channels_removed.values()) > 0
    assert artifact.size_bytes < twin.size_bytes


def test_without_options_the_median_seed_is_exported(tmp_path):
    ticket = found("mlp", tmp_path, steps=60, seeds=(1, 2, 3))
    level = ticket.verdict.level
    ranked = sorted(ticket.seeds, key=lambda record: record.levels[level].validation)
    options = ExportOptions(runtime="onnxruntime", precision="fp32")
    artifact = list(export(ticket, load_target("local"), options, None, tmp_path))[-1]
    assert ranked[0].levels[level].validation <= artifact.metric_torch <= ranked[2].levels[level].validation
    assert Ticket.load(ticket.path).median_seed == artifact.seed
