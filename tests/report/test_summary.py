from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edgeprune.report import bundles_of, read, summary
from edgeprune.report.runs import Run
from edgeprune.report.text import artifact_summary, measurement_summary, ticket_summary
from edgeprune.report.timings import timing_table


def test_a_ticket_gives_density_levels_verdict_and_test_metrics_of_each_seed(built):
    found = ticket_summary(built.ticket)
    assert found["noun"] == "ticket"
    assert found["density"] == built.ticket.verdict.density
    assert found["verdict"]["status"] == "winning"
    assert found["verdict"]["controls"]["shuffled mask"] == "not run"
    assert set(found["seeds"]) == {"1", "2", "3"}
    for record in built.ticket.seeds:
        test = found["seeds"][str(record.seed)]["test"]
        assert test == record.test and set(test) == {"ticket", "dense", "reinit"}
        assert all(0 <= value <= 1 for value in test.values())


def test_levels_are_mean_lowest_and_highest_over_the_seeds(built):
    levels = ticket_summary(built.ticket)["levels"]
    assert [level["level"] for level in levels] == list(range(built.ticket.spec.levels + 1))
    for index, level in enumerate(levels):
        values = [record.levels[index].validation for record in built.ticket.seeds]
        assert level["validation"]["mean"] == pytest.approx(np.mean(values))
        assert (level["validation"]["min"], level["validation"]["max"]) == (min(values), max(values))
        assert level["density"] == pytest.approx(0.8**index)


def test_an_artifact_gives_its_figures(built):
    artifact = built.bundles[1]
    found = artifact_summary(artifact)
    assert found["noun"] == "artifact"
    for name in ("runtime", "precision", "parity_max_abs", "metric_torch", "metric_runtime", "size_bytes"):
        assert found[name] == getattr(artifact, name)
    assert found["size_zip_bytes"] == artifact.size_zip_bytes
    assert found["zeros_lost"] == 0
    assert found["zeros_gained"] == sum(zeros.gained for zeros in artifact.zeros.values()) > 0
    nonzero = sum(zeros.size - zeros.expected - zeros.gained for zeros in artifact.zeros.values())
    assert found["density"] == pytest.approx(nonzero / sum(zeros.size for zeros in artifact.zeros.values()))
    assert found["parity_relative"] == pytest.approx(artifact.parity_max_abs / artifact.parity_scale)


def test_a_measurement_gives_the_statistics_of_the_shared_functions(built):
    measurement = built.measurements[0]
    found = measurement_summary(measurement, built.artifacts)
    wanted = json.loads(json.dumps(asdict(measurement.summary)))
    wanted.update(wanted.pop("artifact"))
    assert {name: json.loads(json.dumps(found[name])) for name in wanted} == wanted
    assert found["noun"] == "measurement"
    assert found["p50_ns"] > 0 and found["samples"] + found["skipped"] == 8 * 150
    assert found["ratio"]["low"] <= found["ratio"]["value"] <= found["ratio"]["high"]
    assert found["against"]["p50_ns"] > found["p50_ns"]
    assert found["against_path"] == measurement.against_path


def test_a_measurement_of_one_bundle_alone_has_no_ratio(tmp_path, make, build_at):
    made = build_at(tmp_path, (("litert", "fp32"),), measured=False)
    alone = make.measurement(tmp_path, made.bundles[0], None)
    found = measurement_summary(alone, made.artifacts)
    assert found["against"] is None and found["ratio"] is None


def test_every_summary_is_plain_json_and_the_same_from_disk(built):
    for noun in (built.ticket, built.bundles[0], built.measurements[0]):
        text = json.dumps(summary(noun, built.artifacts), allow_nan=False, sort_keys=True)
        again = read(noun.path)
        assert json.dumps(summary(again, bundles_of(again)), allow_nan=False, sort_keys=True) == text


def test_the_spec_travels_whole(built):
    assert ticket_summary(built.ticket)["spec"] == asdict(built.ticket.spec)


def test_importing_the_reports_imports_no_heavy_package():
    code = (
        "import edgeprune.report, sys; "
        "print(sorted({'torch', 'jinja2', 'plotly', 'matplotlib', 'scipy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_artifact_gives_its_layers_and_library(built):
    artifact = next(each for each in built.bundles if each.layers)
    found = artifact_summary(artifact)
    assert (found["library"], found["library_bytes"]) == ("libedgeprune.so", 100_000)
    assert found["size_bytes"] == found["model_bytes"] + found["library_bytes"]
    sparse = next(layer for layer in found["layers"] if layer["kernel"] == "sparse")
    assert (sparse["name"], sparse["pattern"], sparse["predicted_gain"]) == ("fc1", "block:1x4", 4.1)


def test_a_measurement_gives_predicted_beside_measured_gain(built):
    measurement = next(each for each in built.measurements if each.runtime == "onnxruntime")
    *layers, rest = measurement_summary(measurement, built.artifacts)["layers"]
    assert [layer["name"] for layer in layers] == ["conv1", "conv2", "fc1", "fc2"]
    fc1 = layers[2]
    assert (fc1["kernel"], fc1["predicted_gain"], fc1["measured_gain"]) == ("sparse", 4.1, 4.0)
    assert (fc1["time_ns"], fc1["against_ns"]) == (25_000, 100_000)
    assert rest == {"name": "the rest", "time_ns": 2_000, "against_ns": 2_000, "measured_gain": 1.0}


def test_without_the_bundle_the_layers_are_what_both_profiles_name(built):
    measurement = next(each for each in built.measurements if each.runtime == "onnxruntime")
    moved = replace(
        measurement, path=Path("/nowhere/measurements/m.json"), artifact_path="/nowhere/a", against_path="/nowhere/b"
    )
    *layers, rest = measurement_summary(moved, bundles_of(moved))["layers"]
    assert [layer["name"] for layer in layers] == ["conv1", "conv2", "fc1", "fc2", "flatten"]
    assert "predicted_gain" not in layers[0] and layers[2]["measured_gain"] == 4.0
    assert (rest["time_ns"], rest["measured_gain"]) == (0, None)


def test_a_measurement_without_a_profile_has_no_layers(built):
    measurement = next(each for each in built.measurements if each.runtime == "litert")
    assert measurement_summary(measurement, built.artifacts)["layers"] == []


def test_energy_is_absent_where_no_power_was_measured_and_told_where_it_was(built):
    measurement = built.measurements[0]
    assert measurement_summary(measurement, built.artifacts)["energy"] == {"artifact": "absent", "against": "absent"}
    power = {"idle": [[0, 2_000_000]] * 10, "steady": [[0, 5_000_000]] * 10}
    blocks = tuple(replace(block, power_uw=power if block.role == "artifact" else {}) for block in measurement.blocks)
    measured = replace(measurement, blocks=blocks)
    found = measurement_summary(measured, built.artifacts)["energy"]
    assert found["against"] == "absent"
    assert found["artifact"]["gross_j"] / found["artifact"]["net_j"] == pytest.approx(5 / 3)
    rows = {row[0]: row[1:] for row in timing_table(Run.of(measured)).rows}
    assert rows["Energy of one inference"][0].endswith("mJ") and " ± " in rows["Energy of one inference"][0]
    assert rows["Energy above rest"][1] == "absent"
