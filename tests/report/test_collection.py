from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.artifact import Artifact
from edgeprune.errors import EdgepruneError, ExportError, MeasurementError, TicketError
from edgeprune.measurement import Measurement
from edgeprune.report import collect, read
from edgeprune.ticket import Ticket

CELL = (("onnxruntime", "fp32"),)


def paths(nouns):
    return {noun.path for noun in nouns}


def test_without_paths_the_newest_ticket_and_all_that_was_made_from_it(tmp_path, make, build_at):
    older = build_at(tmp_path, CELL, ticket=make.ticket(tmp_path, make.spec("digits")))
    newer = build_at(tmp_path, ticket=make.ticket(tmp_path, make.spec("mnist-cnn")))
    found = collect([], tmp_path)
    assert [ticket.id for ticket in found.tickets] == [newer.ticket.id] != [older.ticket.id]
    assert paths(found.artifacts) == paths(newer.artifacts)
    assert paths(found.measurements) == paths(newer.measurements)
    assert found.left_out == ()


def test_a_ticket_brings_its_artifacts_and_measurements(built):
    found = collect([built.ticket.path], built.out)
    assert paths(found.artifacts) == paths(built.artifacts)
    assert paths(found.measurements) == paths(built.measurements)


def test_an_artifact_brings_its_ticket_twin_and_measurements_and_no_other_artifact(built):
    bundle = built.bundles[0]
    found = collect([bundle.path], built.out)
    assert paths(found.artifacts) == {bundle.path, bundle.twin_path()}
    assert [each.artifact_path for each in found.measurements] == [str(bundle.path)]
    assert paths(found.tickets) == {built.ticket.path}


def test_a_measurement_brings_what_it_measured_and_no_other_measurement(built):
    measurement = built.measurements[1]
    found = collect([measurement.path], built.out)
    assert paths(found.measurements) == {measurement.path}
    assert {str(path) for path in paths(found.artifacts)} == {measurement.artifact_path, measurement.against_path}
    assert paths(found.tickets) == {built.ticket.path}


def test_a_dense_twin_given_alone_brings_no_measurement_of_the_ticket(built):
    twin = next(artifact for artifact in built.artifacts if artifact.variant == "dense")
    found = collect([twin.path], built.out)
    assert paths(found.artifacts) == {twin.path}
    assert found.measurements == ()


def test_the_same_path_twice_counts_once(built):
    given = [built.ticket.path, built.ticket.path / "ticket.json", built.bundles[0].path, built.bundles[0].path]
    found = collect(given, built.out)
    assert len(found.tickets) == 1
    assert len([each for each in found.artifacts if each.variant == "ticket"]) == 1


def test_read_tells_the_three_kinds(built):
    assert isinstance(read(built.ticket.path), Ticket)
    assert isinstance(read(built.ticket.path / "ticket.json"), Ticket)
    assert isinstance(read(built.bundles[0].path), Artifact)
    assert isinstance(read(built.bundles[0].path / "manifest.json"), Artifact)
    assert isinstance(read(built.measurements[0].path), Measurement)


def test_without_any_ticket_the_error_says_which_command_makes_one(tmp_path):
    with pytest.raises(TicketError, match="edgeprune find"):
        collect([], tmp_path)


def test_a_path_to_nothing_names_the_path_and_what_is_wanted(tmp_path):
    with pytest.raises(EdgepruneError, match=r"nowhere.*ticket.*artifact.*measurement"):
        collect([tmp_path / "nowhere"], tmp_path)


def test_a_path_to_something_else_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(EdgepruneError, match="neither a ticket"):
        read(tmp_path / "model.onnx")


def test_a_run_without_its_ticket_yet_is_called_unfinished(tmp_path):
    folder = tmp_path / "tickets" / "digits-0123"
    folder.mkdir(parents=True)
    with pytest.raises(TicketError, match="not finished"):
        read(folder)


@pytest.mark.parametrize("kind", ["ticket", "artifact", "measurement"])
def test_a_given_noun_that_was_edited_raises_its_own_error(tmp_path, build_at, kind):
    made = build_at(tmp_path, CELL)
    path, error = {
        "ticket": (made.ticket.path / "ticket.json", TicketError),
        "artifact": (made.bundles[0].path / "manifest.json", ExportError),
        "measurement": (made.measurements[0].path, MeasurementError),
    }[kind]
    body = json.loads(path.read_text())
    body["task_name" if kind != "measurement" else "target"] = "other"
    path.write_text(json.dumps(body))
    with pytest.raises(error, match="edited"):
        collect([path], tmp_path)


def test_a_damaged_file_that_was_merely_found_is_listed_and_the_rest_stays(tmp_path, build_at):
    made = build_at(tmp_path)
    (made.bundles[0].path / "manifest.json").write_text("{")
    made.measurements[2].path.write_text("{")
    found = collect([], tmp_path)
    assert made.bundles[0].path not in paths(found.artifacts)
    assert {made.bundles[1].path, made.bundles[2].path} <= paths(found.artifacts)
    assert paths(found.measurements) == {made.measurements[1].path}
    assert any(str(made.bundles[0].path) in line for line in found.left_out)
    assert any(line.endswith("build it again with: edgeprune export") for line in found.left_out)
    assert any(str(made.measurements[2].path) in line for line in found.left_out)


def test_a_measurement_of_an_earlier_build_is_left_out_and_said_so(tmp_path, build_at):
    made = build_at(tmp_path, CELL)
    measurement = made.measurements[0]
    replace(measurement, artifact_sha256="0" * 64).save()
    found = collect([], tmp_path)
    assert found.measurements == ()
    assert [line for line in found.left_out if "earlier build" in line and str(measurement.path) in line]


def test_a_measurement_still_finds_its_bundle_after_the_folder_moved(tmp_path, build_at):
    made = build_at(tmp_path / "old", CELL)
    (tmp_path / "old").rename(tmp_path / "new")
    names = {artifact.path.name for artifact in made.artifacts}
    path = tmp_path / "new" / "measurements" / made.measurements[0].path.name
    for given in ([], [path]):
        found = collect(given, tmp_path / "new")
        assert len(found.measurements) == 1
        assert {artifact.path.name for artifact in found.artifacts} == names


def test_folders_that_another_process_is_writing_are_passed_over(tmp_path, build_at):
    made = build_at(tmp_path, CELL)
    hidden = Path(tmp_path, "artifacts", ".half")
    hidden.mkdir()
    (hidden / "manifest.json").write_text("{")
    found = collect([], tmp_path)
    assert paths(found.artifacts) == paths(made.artifacts)
    assert found.left_out == ()
