from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import FindSpec, Mask, Ticket, TicketError, store, typed
from edgeprune.ticket import LevelRecord, SeedRecord, Verdict, rewind_step, write_seed

SPEC: dict[str, Any] = {
    "task": "digits",
    "task_sha256": "1" * 64,
    "data_sha256": "2" * 64,
    "pattern": "unstructured",
    "rates": (0.2, 0.1),
    "scope": "layer",
    "rate_scale": {"fc3.weight": 0.5},
    "iterations": 100,
    "batch_size": 60,
    "evaluate_every": 20,
    "rewind_step": 0,
    "seeds": (1, 2, 3),
    "margin": 0.005,
    "confidence": 0.95,
    "threads": 1,
    "torch_version": "2.13.0",
}
VALIDATION = {1: 0.97, 2: 0.95, 3: 0.96}


def seed_weights(seed: int) -> tuple[Mask, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    mask = Mask({"fc.weight": rng.random((4, 6)) < 0.72})
    return mask, {"fc.weight": rng.standard_normal((4, 6)).astype(np.float32), "fc.bias": np.ones(4, np.float32)}


def make_ticket(folder: Path) -> Ticket:
    records = []
    for seed, metric in VALIDATION.items():
        mask, weights = seed_weights(seed)
        roles = {"trained": mask.apply(weights), "dense": weights, "rewind": weights, "reinit": mask.apply(weights)}
        sha256 = write_seed(folder, seed, {"mask": dict(mask), **roles})
        levels = tuple(
            LevelRecord(level, density, mask.densities(), metric - 0.001 * level, 0.1, 80)
            for level, density in enumerate((1.0, 0.8, 0.72))
        )
        records.append(SeedRecord(seed, levels, {"ticket": 0.96, "dense": 0.955, "reinit": 0.93}, 0.94, sha256))
    verdict = Verdict(
        "winning", 2, 0.72, 0.005, (0.001, 0.009), 0.03, None, 3, 0.005, 0.95, {"reinit": "run"}, "It wins."
    )
    ticket = Ticket(folder, FindSpec(**SPEC), "digits", "", "accuracy", 28, tuple(records), verdict)
    ticket.save()
    return ticket


def test_a_ticket_is_read_as_it_was_written(tmp_path: Path) -> None:
    ticket = make_ticket(tmp_path / "digits-1")
    assert Ticket.load(ticket.path) == ticket
    assert Ticket.load(ticket.path / "ticket.json") == ticket
    assert Ticket.load(str(ticket.path)) == ticket
    for seed in VALIDATION:
        mask, weights = seed_weights(seed)
        np.testing.assert_array_equal(ticket.mask(seed)["fc.weight"], mask["fc.weight"])
        np.testing.assert_array_equal(ticket.weights(seed)["fc.weight"], mask.apply(weights)["fc.weight"])
        np.testing.assert_array_equal(ticket.weights(seed, "dense")["fc.weight"], weights["fc.weight"])
    assert ticket.median_seed == 3
    with pytest.raises(TicketError, match=r"no seed 4.*seeds: 1, 2, 3"):
        ticket.mask(4)


def test_the_same_ticket_has_the_same_bytes(tmp_path: Path) -> None:
    one, two = make_ticket(tmp_path / "one"), make_ticket(tmp_path / "two")
    files = sorted(path.name for path in one.path.iterdir())
    assert files == ["seed-1.safetensors", "seed-2.safetensors", "seed-3.safetensors", "ticket.json"]
    for name in files:
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


OTHER: dict[str, Any] = {
    "task": "mnist",
    "task_sha256": "3" * 64,
    "data_sha256": "3" * 64,
    "pattern": "channel",
    "rates": (0.2, 0.2),
    "scope": "global",
    "rate_scale": {},
    "iterations": 101,
    "batch_size": 61,
    "evaluate_every": 21,
    "rewind_step": 1,
    "seeds": (1, 2),
    "margin": 0.01,
    "confidence": 0.9,
    "threads": 2,
    "torch_version": "2.12.0",
    "revive": True,
    "tied": {"out.weight": "embed.weight"},
    "files": {"weights.pt": "3" * 64},
    "weights_sha256": "3" * 64,
}


def test_every_field_of_the_spec_is_in_the_id() -> None:
    spec = FindSpec(**SPEC)
    assert OTHER.keys() == {field.name for field in dataclasses.fields(FindSpec)}
    ids = {spec.id} | {dataclasses.replace(spec, **{name: value}).id for name, value in OTHER.items()}
    assert len(ids) == 1 + len(OTHER)


WRITABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@given(
    rates=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5),
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True),
    scale=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
        st.floats(0, 1),
        max_size=3,
    ),
)
def test_a_spec_survives_json(rates: list[float], seeds: list[int], scale: dict[str, float]) -> None:
    spec = FindSpec(**{**SPEC, "rates": tuple(rates), "seeds": tuple(seeds), "rate_scale": scale})
    again = typed.decode(FindSpec, typed.parse_json(json.dumps(dataclasses.asdict(spec))))
    assert again == spec
    assert again.id == spec.id
    assert again.levels == len(rates)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("rates", (), "rates"),
        ("rates", (0.2, 1.0), "rates"),
        ("rates", (0.0,), "rates"),
        ("seeds", (), "seeds"),
        ("seeds", (1, 1), "distinct"),
        ("rewind_step", 100, "rewind step 100"),
        ("rewind_step", -1, "rewind step -1"),
        ("margin", 0.0, "margin"),
        ("confidence", 1.0, "confidence"),
    ],
)
def test_an_impossible_spec_is_refused(field: str, value: Any, says: str) -> None:
    with pytest.raises(TicketError, match=says):
        FindSpec(**{**SPEC, field: value})


@pytest.mark.parametrize("edit", ['"density": 0.8', '"status": "winning"', '"seed": 2', '"margin": 0.005'])
def test_an_edited_ticket_is_refused(edit: str, tmp_path: Path) -> None:
    path = make_ticket(tmp_path / "t").path / "ticket.json"
    text = path.read_text()
    assert edit in text
    path.write_text(text.replace(edit, edit[:-1] + ("9" if edit[-1] != '"' else 'x"'), 1))
    with pytest.raises(TicketError, match="edited or damaged"):
        Ticket.load(path)


def resealed(path: Path, change: dict[str, Any]) -> None:
    body = {**json.loads(path.read_text()), **change}
    del body["seal"], body["schema_version"]
    store.write_json(path, body)


def test_a_resealed_edit_still_meets_its_id(tmp_path: Path) -> None:
    ticket = make_ticket(tmp_path / "t")
    spec = dataclasses.asdict(ticket.spec)
    resealed(ticket.path / "ticket.json", {"spec": {**spec, "pattern": "channel"}})
    with pytest.raises(TicketError, match="id is not the hash"):
        Ticket.load(ticket.path)
    resealed(ticket.path / "ticket.json", {"spec": spec, "seeds": []})
    with pytest.raises(TicketError, match="seeds"):
        Ticket.load(ticket.path)
    resealed(ticket.path / "ticket.json", {"spec": {"task": "digits"}})
    with pytest.raises(TicketError, match="spec.task_sha256: missing"):
        Ticket.load(ticket.path)


def test_edited_weights_are_refused(tmp_path: Path) -> None:
    ticket = make_ticket(tmp_path / "t")
    path = ticket.path / "seed-2.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 128
    path.write_bytes(bytes(data))
    assert ticket.mask(1).total == 24
    with pytest.raises(TicketError, match=r"seed-2.*SHA-256"):
        Ticket.load(ticket.path).mask(2)
    path.unlink()
    with pytest.raises(TicketError, match="seed-2.safetensors: the file does not exist"):
        ticket.mask(2)


@pytest.mark.parametrize(("text", "step"), [("init", 0), ("500-steps", 500), ("2-epochs", 1800)])
def test_rewind_names_a_step(text: str, step: int) -> None:
    assert rewind_step(text, 900) == step


@pytest.mark.parametrize("text", ["", "500", "steps", "-1-steps", "1.5-epochs", "init-steps"])
def test_an_unknown_rewind_is_refused(text: str) -> None:
    with pytest.raises(TicketError, match="rewind"):
        rewind_step(text, 900)
