from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune import Measurement, MeasurementError, store
from edgeprune.blocks import Block, Count, NativeRun
from edgeprune.measurement import Aggregated, Emulated, Timed, find_artifact, timed


def make_block(role: str, start: int) -> Block:
    return Block(
        role=role,
        start_ns=30_000_000,
        import_ns=20_000_000,
        load_ns=4_000_000,
        first_ns=900_000,
        warmup_ns=(start + 50, start + 20),
        samples_ns=(start, start + 1, start + 2),
        memory_bytes={"steady": {"rss_anon": 1 << 20, "hwm": 1 << 21}},
        conditions_before={"temperature": {"zone0": 45000}, "throttling": "absent"},
        conditions_after={"temperature": "unreadable"},
        model_sha256="a" * 64,
        output_max_abs=1e-6,
    )


def make_measurement(path: Path, **changes: Any) -> Timed:
    fields: dict[str, Any] = {
        "path": path,
        "artifact_path": str(path.parent / "ticket"),
        "artifact_sha256": "a" * 64,
        "against_path": str(path.parent / "dense"),
        "against_sha256": "b" * 64,
        "ticket_id": "c" * 64,
        "target": "local",
        "connection": "local",
        "runtime": "litert",
        "precision": "fp32",
        "threads": 1,
        "created": "2026-01-31T12:00:00Z",
        "environment": {"python": "3.11.7", "runtime": {"version": "2.3.0"}},
        "blocks": (make_block("artifact", 100), make_block("against", 300), make_block("artifact", 110)),
    }
    return Timed(**{**fields, **changes})


def test_a_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path / "m.json")
    measurement.save()
    again = timed(Measurement.load(tmp_path / "m.json"))
    assert again == measurement
    assert again.samples() == [(100, 101, 102), (110, 111, 112)]
    assert again.samples("against") == [(300, 301, 302)]
    assert [block.role for block in again.of("against")] == ["against"]


COUNTS = (Count("artifact", 700, "a" * 64, 0.0), Count("against", 1400, "b" * 64, 1e-6))
RUN = NativeRun("artifact", 50, 900, 1200, 1000, 20, 5000, 3000, None, "a" * 64)


def of_each_kind(path: Path) -> list[Measurement]:
    header = {name: value for name, value in vars(make_measurement(path)).items() if name != "blocks"}
    return [make_measurement(path), Emulated(**header, counts=COUNTS), Aggregated(**header, native=(RUN, RUN))]


def test_a_file_says_its_kind_and_holds_the_parts_of_no_other(tmp_path: Path) -> None:
    parts = {"blocks", "counts", "native"}
    for measurement, part in zip(of_each_kind(tmp_path / "m.json"), ("blocks", "counts", "native")):
        measurement.save()
        again = Measurement.load(tmp_path / "m.json")
        assert again == measurement and type(again) is type(measurement)
        body = json.loads((tmp_path / "m.json").read_text())
        assert body["kind"] == measurement.kind and {name for name in parts if body[name]} == {part}
        del body["seal"], body["schema_version"]
        for other in parts - {part}:
            store.write_json(tmp_path / "m.json", {**body, other: [{}]})
            with pytest.raises(MeasurementError, match=f"a measurement holds .* got kind .* with .*{other}"):
                Measurement.load(tmp_path / "m.json")
        store.write_json(tmp_path / "m.json", {**body, "kind": "guessed"})
        with pytest.raises(MeasurementError, match=f"got kind 'guessed' with {part}; "):
            Measurement.load(tmp_path / "m.json")


def test_a_file_of_an_earlier_edgeprune_lacks_what_came_later(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path / "m.json")
    measurement.save()
    body = json.loads((tmp_path / "m.json").read_text())
    later = ("seal", "schema_version", "counts", "native", "asked", "notes", "plan")
    store.write_json(tmp_path / "m.json", {name: value for name, value in body.items() if name not in later})
    assert Measurement.load(tmp_path / "m.json") == measurement


def test_each_kind_has_a_summary_of_its_own(tmp_path: Path) -> None:
    times, counted, native = of_each_kind(tmp_path / "m.json")
    assert isinstance(times, Timed) and times.summary.artifact.blocks == 2
    assert isinstance(counted, Emulated) and (counted.summary.against, counted.summary.ratio) == (1400, 2.0)
    assert isinstance(native, Aggregated) and (native.summary.artifact.mean_ns, native.summary.ratio) == (1000, None)
    assert timed(times) is times and (len(times.ran), len(counted.ran), len(native.ran)) == (3, 0, 2)
    for other in (counted, native):
        with pytest.raises(MeasurementError, match=f"holds {other.kind}, no samples"):
            timed(other)


def test_an_edited_sample_is_noticed(tmp_path: Path) -> None:
    make_measurement(tmp_path / "m.json").save()
    text = (tmp_path / "m.json").read_text()
    (tmp_path / "m.json").write_text(text.replace("101", "99", 1))
    with pytest.raises(MeasurementError, match="edited or damaged"):
        Measurement.load(tmp_path / "m.json")


def test_a_missing_unknown_or_wrong_field_is_noticed(tmp_path: Path) -> None:
    make_measurement(tmp_path / "m.json").save()
    body = json.loads((tmp_path / "m.json").read_text())
    del body["seal"], body["schema_version"]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"speed": 1}, "speed: unknown field"),
        ({"blocks": [{"role": "artifact"}]}, r"blocks\[0\].start_ns: missing"),
        ({"plan": {"spread_seconds": [60]}}, "plan.spread_seconds: expected true or false or a number, got a list"),
        ({"asked": {"host": 7}}, "asked.host: expected text, got 7"),
    ]
    for change, says in changes:
        store.write_json(tmp_path / "m.json", {**body, **change})
        with pytest.raises(MeasurementError, match=says):
            Measurement.load(tmp_path / "m.json")
    del body["target"]
    store.write_json(tmp_path / "m.json", body)
    with pytest.raises(MeasurementError, match="target"):
        Measurement.load(tmp_path / "m.json")


def test_a_block_needs_a_known_role_and_samples() -> None:
    assert make_block("floor_a", 1).role == "floor_a"
    with pytest.raises(MeasurementError, match="rival"):
        make_block("rival", 1)
    with pytest.raises(MeasurementError, match="without samples"):
        Block(**{**vars(make_block("artifact", 1)), "samples_ns": ()})


def test_floors_come_in_pairs_and_the_artifact_is_there(tmp_path: Path) -> None:
    for blocks in ((make_block("against", 1),), (make_block("artifact", 1), make_block("floor_b", 1))):
        with pytest.raises(MeasurementError, match="needs its artifact, and floors in pairs"):
            make_measurement(tmp_path / "m.json", blocks=blocks)


def test_the_bundle_is_found_where_it_lay_or_not_at_all(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path / "m.json")
    assert find_artifact(measurement) is None
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "manifest.json").touch()
    assert find_artifact(measurement, "against") == tmp_path / "dense"
    assert find_artifact(make_measurement(tmp_path / "m.json", against_path=""), "against") is None
