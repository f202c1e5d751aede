from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeprune import Measurement, MeasurementError, store
from edgeprune.measurement import Block, find_artifact


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


def make_measurement(path: Path, **changes: Any) -> Measurement:
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
        "kind": "measured",
        "created": "2026-01-31T12:00:00Z",
        "environment": {"python": "3.11.7", "runtime": {"version": "2.3.0"}},
        "blocks": (make_block("artifact", 100), make_block("against", 300), make_block("artifact", 110)),
    }
    return Measurement(**{**fields, **changes})


def test_a_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    measurement = make_measurement(tmp_path / "m.json")
    measurement.save()
    again = Measurement.load(tmp_path / "m.json")
    assert again == measurement
    assert again.samples() == [(100, 101, 102), (110, 111, 112)]
    assert again.samples("against") == [(300, 301, 302)]
    assert [block.role for block in again.of("against")] == ["against"]


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
