"""Which bundle a report names: accurate first, then measured on the target itself, then fast, then small."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.report import choices, collect
from edgeprune.report.bundles import ELSEWHERE, MEASURED, NONE, SIZE

CELLS = (("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("litert", "fp32"))
DENSE = 0.9895  # about what the dense level of the made tickets has on validation data


def chosen(out):
    (choice,) = choices(collect([], out))
    return choice


def cell(choice):
    return choice.artifact and (choice.artifact.runtime, choice.artifact.precision, choice.artifact.variant)


@pytest.fixture
def made(tmp_path, build_at):
    return build_at(tmp_path, CELLS)


def change(made, wanted, **changes):
    """Every artifact of this (runtime, precision, variant) with other fields."""
    for artifact in made.artifacts:
        if (artifact.runtime, artifact.precision, artifact.variant) == wanted:
            replace(artifact, **changes).save()


def test_the_fastest_of_those_measured_on_the_target(made):
    choice = chosen(made.out)
    assert cell(choice) == ("onnxruntime", "int8", "ticket") and choice.basis == MEASURED
    assert "of the 6 bundles within 0.50 points of the dense model's validation accuracy" in choice.why
    assert "the fastest on Raspberry Pi 4 Model B Rev 1.4, aarch64" in choice.why
    assert "next the fp32 ticket for ONNX Runtime" in choice.why
    assert choice.json()["artifact"] == str(choice.artifact.path)


def test_what_loses_more_than_the_margin_is_not_chosen_however_fast(made):
    dense = made.ticket.record(made.ticket.median_seed).levels[0].validation
    change(made, ("onnxruntime", "int8", "ticket"), metric_runtime=dense - 0.0051)
    assert cell(chosen(made.out)) == ("onnxruntime", "fp32", "ticket")
    change(made, ("onnxruntime", "int8", "ticket"), metric_runtime=dense - 0.005)  # exactly the margin is within it
    assert cell(chosen(made.out)) == ("onnxruntime", "int8", "ticket")


def test_where_nothing_is_accurate_enough_nothing_is_named(made):
    for artifact in made.artifacts:
        replace(artifact, metric_runtime=0.9 if artifact.precision == "int8" else 0.91).save()
    choice = chosen(made.out)
    assert (choice.artifact, choice.basis, choice.name) == (None, NONE, "None")
    assert "no bundle for rpi4 stays within 0.50 points" in choice.why and "fp32" in choice.why


def test_the_test_set_chooses_nothing(made):
    before = cell(chosen(made.out))
    for artifact in made.artifacts:
        replace(artifact, metric_test_runtime=0.1 if artifact.precision == "int8" else 1.0).save()
    assert cell(chosen(made.out)) == before


def test_a_dense_bundle_that_is_faster_is_named(made, make):
    for measurement in made.measurements:
        measurement.path.unlink()
    bundle, twin = (each for each in made.artifacts if (each.runtime, each.precision) == ("litert", "fp32"))
    slow = make.measurement(made.out, bundle, twin)
    flip = {"artifact": "against", "against": "artifact"}
    hashes = {"artifact_sha256": slow.artifact_sha256, "against_sha256": slow.against_sha256}
    blocks = tuple(
        replace(block, role=flip[block.role], model_sha256=hashes[f"{flip[block.role]}_sha256"])
        for block in slow.blocks
    )
    replace(slow, blocks=blocks).save()
    choice = chosen(made.out)
    assert cell(choice) == ("litert", "fp32", "dense")
    assert choice.name == "The dense fp32 network for LiteRT"
    assert "and measured there (4 more were not)" in choice.why


def test_of_equals_the_smaller(made):
    change(made, ("onnxruntime", "int8", "ticket"), size_bytes=10**9)
    int8 = next(each for each in made.measurements if each.precision == "int8")
    fp32 = next(each for each in made.measurements if each.precision == "fp32" and each.runtime == "onnxruntime")
    blocks = tuple(
        replace(
            block,
            model_sha256=fp32.artifact_sha256,
            samples_ns=tuple(int(1.02 * sample) for sample in block.samples_ns),
        )
        if block.role == "artifact"
        else block
        for block in int8.blocks
    )
    replace(fp32, blocks=blocks).save()
    choice = chosen(made.out)
    assert cell(choice) == ("onnxruntime", "fp32", "ticket") and "the smallest of the fastest" in choice.why


def test_a_figure_of_another_machine_is_a_guess(made):
    x86 = {"cpu": "Intel Xeon", "arch": "x86_64", "host": "desk"}
    for measurement in made.measurements:
        replace(measurement, environment=x86).save()
    choice = chosen(made.out)
    assert choice.basis == ELSEWHERE and "None was measured on rpi4 itself, so this is a guess." in choice.why
    on_target = next(each for each in made.measurements if each.runtime == "litert")
    on_target.save()
    choice = chosen(made.out)
    assert cell(choice) == ("litert", "fp32", "ticket") and choice.basis == MEASURED, "slower, but measured there"


def test_without_a_measurement_the_smallest(made):
    for measurement in made.measurements:
        measurement.path.unlink()
    choice = chosen(made.out)
    assert choice.basis == SIZE and choice.artifact.size_bytes == min(each.size_bytes for each in made.artifacts)


def test_targets_and_tickets_are_kept_apart(made, make, build_at):
    other = make.ticket(made.out, make.spec("digits"))
    build_at(made.out, CELLS[:1], ticket=other)
    change(made, ("litert", "fp32", "ticket"), target="local")
    found = choices(collect([made.ticket.path, other.path], made.out))
    assert {(choice.ticket_id, choice.target) for choice in found} == {
        (made.ticket.id, "rpi4"),
        (made.ticket.id, "local"),
        (other.id, "rpi4"),
    }
    for choice in found:
        assert choice.artifact.ticket_id == choice.ticket_id and choice.artifact.target == choice.target


def test_times_with_other_threads_are_not_compared(made):
    """Two bundles ran with one thread, one with four, which is the faster only for that."""
    for measurement in made.measurements:
        threads = 4 if (measurement.runtime, measurement.precision) == ("onnxruntime", "int8") else 1
        replace(measurement, threads=threads).save()
    choice = chosen(made.out)
    assert cell(choice) == ("onnxruntime", "fp32", "ticket") and choice.run.measurement.threads == 1
    assert "and measured there (2 more were not)" in choice.why


def test_times_of_two_machines_are_not_compared_though_both_are_the_target(made):
    other = {"machine": "Raspberry Pi 4 overclocked", "cpu": "Cortex-A72", "arch": "aarch64"}
    for measurement in made.measurements:
        if (measurement.runtime, measurement.precision) == ("onnxruntime", "int8"):
            replace(measurement, environment=other).save()
    assert cell(chosen(made.out)) == ("onnxruntime", "fp32", "ticket")
