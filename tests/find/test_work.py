"""Work files: damage is found, set aside and made good; checkpoints hold what optimizers and schedulers keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import tasks
from edgeprune.errors import TaskError, TicketError
from edgeprune.find import FileSetAside, LevelFinished, RunFinished, find_levels, prepare, training, work
from edgeprune.find.checkpoint import _packed, _unpacked
from edgeprune.mask import Mask
from edgeprune.options import FindOptions

TINY = Path(__file__).parent / "tiny_task.py"


def problem(function="make", levels=1):
    return prepare(tasks.load(f"{TINY}:{function}"), FindOptions(levels=levels, seeds=(1,)), None)


def ticket_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("log.jsonl",)}


def broken_off(found, out, after):
    """Run until `after` levels are finished; the files of these."""
    events = find_levels(found, out)
    for event in events:
        after -= isinstance(event, LevelFinished)
        if not after:
            break
    events.close()
    return sorted(out.glob("tickets/*/work/seed-1-level-*.safetensors"))


def flip(path, place=-3):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def of_another_edgeprune(path):
    """Its record lacks a field that this edgeprune has."""
    arrays = work.read(path)
    record = json.loads(arrays["record"].tobytes())
    del record["loss"]
    arrays["record"] = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "KEPT", [part for part in work.KEPT if part.name != "loss"])
        work.write(path, arrays)


@pytest.mark.parametrize("spoil", [flip, truncate, of_another_edgeprune])
def test_a_damaged_level_is_set_aside_and_trained_again(tmp_path, spoil):
    found = problem()
    whole = list(find_levels(found, tmp_path / "whole"))[-1].ticket
    spoil(broken_off(found, tmp_path / "broken", 2)[0])
    events = list(find_levels(found, tmp_path / "broken"))
    aside = [event.path for event in events if isinstance(event, FileSetAside)]
    assert [path.name for path in aside] == ["seed-1-level-0.safetensors.damaged"]
    assert ticket_bytes(events[-1].ticket.path) == ticket_bytes(whole.path)


@pytest.mark.parametrize("name", ["ticket.json", "seed-1.safetensors"])
def test_a_damaged_ticket_is_found_again(tmp_path, name):
    found = problem()
    ticket = list(find_levels(found, tmp_path))[-1].ticket
    before = ticket_bytes(ticket.path)
    flip(ticket.path / name, 200)
    events = list(find_levels(found, tmp_path))
    assert isinstance(events[0], FileSetAside) and events[-1] == RunFinished(ticket, resumed=False)
    after = ticket_bytes(ticket.path)
    assert {name: after[name] for name in before} == before


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("work") / "a.safetensors"
    work.write(path, {"one": np.arange(6, dtype=np.float32), "two": np.array([True, False])})
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        read = work.read(path)
    except TicketError:
        return
    # A space more or less in the header changes nothing that is held.
    assert list(read["one"]) == list(range(6)) and list(read["two"]) == [True, False]


@pytest.mark.parametrize("function", ["tensor_rate", "plateau", "numpy_jitter"])
def test_a_run_goes_on_bit_identically_whatever_it_keeps(tmp_path, monkeypatch, function):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    found = problem(function)
    whole = list(find_levels(found, tmp_path / "whole"))[-1].ticket
    events = find_levels(found, tmp_path / "broken")
    for _ in range(4):
        next(events)
    events.close()
    assert list((tmp_path / "broken").glob("tickets/*/work/*partial*"))
    again = list(find_levels(found, tmp_path / "broken"))[-1].ticket
    assert ticket_bytes(again.path) == ticket_bytes(whole.path)


def test_a_plateau_lowers_the_rate_when_the_metric_no_longer_rises(tmp_path):
    found = problem("plateau")
    weights = training.copy_state(found.loaded.task.model())
    start = training.LevelStart(weights, Mask.ones({}), 0, 1, 0, tmp_path / "none.safetensors")
    level = training.Level(found.loaded.task.model(), found.loaded.task, found.data, found.spec, start)
    for value, rate in ((0.5, 0.1), (0.6, 0.1), (0.6, 0.05), (0.7, 0.05)):
        level.note_validation(value)
        assert level.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_a_state_of_any_depth_comes_back_and_what_no_file_holds_is_named():
    state = {"lr": torch.tensor(0.1), "betas": (0.9, torch.tensor(0.99)), "list": [1, None, {"on": True}]}
    tensors = {}
    back = _unpacked(_packed(state, "groups", tensors), tensors)
    assert torch.equal(back["lr"], state["lr"]) and back["betas"][0] == 0.9 and isinstance(back["betas"], tuple)
    assert back["list"] == state["list"]
    with pytest.raises(TaskError, match="keeps a Generator"):
        _packed({"state": torch.Generator()}, "groups", {})
