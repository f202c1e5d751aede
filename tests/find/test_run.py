"""Runs from start to ticket: rewinding, exact zeros, controls, and that a stopped run ends as an unbroken one."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune import Ticket, store, tasks
from edgeprune.errors import TicketError
from edgeprune.find import (
    LevelFinished,
    LevelStarted,
    RunFinished,
    TrainingProgress,
    conclusion,
    find_levels,
    prepare,
    training,
)
from edgeprune.options import FindOptions
from edgeprune.patterns import load, names
from tests.masks import admits

TINY = Path(__file__).parent / "tiny_task.py"
COMMAND = [sys.executable, "-m", "edgeprune"]


def problem(function="make", **options):
    return prepare(tasks.load(f"{TINY}:{function}"), FindOptions(**{"levels": 3, "seeds": (1,), **options}), None)


def run(found, out):
    return list(find_levels(found, out))


def ticket_bytes(folder):
    """Every file of a ticket but the log of timings."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.jsonl"}


def test_a_ticket_is_complete_and_reads_back(tmp_path):
    events = run(problem(seeds=(1, 2)), tmp_path)
    ticket = events[-1].ticket
    again = Ticket.load(ticket.path)
    assert again == ticket
    assert [record.seed for record in ticket.seeds] == [1, 2]
    assert set(ticket.record(1).test) == {"ticket", "dense", "reinit"}
    assert ticket.record(1).test["dense"] > 0.8
    assert not (ticket.path / "work").exists()
    assert ticket.verdict.controls["random reinit"] == "run"
    assert "not run" in ticket.verdict.controls.values()


@pytest.mark.parametrize("pattern", names())
def test_pruned_weights_are_positive_zeros_in_every_pattern(tmp_path, pattern):
    ticket = run(problem(pattern=pattern, levels=2), tmp_path)[-1].ticket
    mask = ticket.mask(1)
    for role in ("trained", "reinit"):
        for name, weight in ticket.weights(1, role).items():
            if name in mask:
                assert np.all(weight[~mask[name]].view(np.int32) == 0), (role, name)
                assert admits(load(pattern), mask[name])
    assert mask.density < 1


def test_every_level_starts_from_the_rewind_weights_times_the_mask(tmp_path, monkeypatch):
    found, starts = problem(rewind="10-steps"), []
    real = training.Level.__init__

    def noting(self, *arguments):
        real(self, *arguments)
        starts.append((self.start, training.to_arrays(training.copy_state(self.model))))

    monkeypatch.setattr(training.Level, "__init__", noting)
    ticket = run(found, tmp_path)[-1].ticket
    rewind = ticket.weights(1, "rewind")
    levels = starts[1:4]
    assert len(starts) == 5 and [start.step for start, _ in starts] == [0, 10, 10, 10, 0]
    for start, weights in levels:
        expected = start.mask.apply(rewind)
        assert weights.keys() == expected.keys()
        for name in weights:
            assert np.array_equal(weights[name], expected[name]), name
    # The rewind point lies ten steps after the initial weights, so it is neither them nor the dense result.
    assert not np.array_equal(rewind["0.weight"], training.to_arrays(starts[0][0].weights)["0.weight"])
    assert not np.array_equal(rewind["0.weight"], ticket.weights(1, "dense")["0.weight"])


def test_masks_never_grow_back_and_densities_fall(tmp_path):
    densities = [event.record.density for event in run(problem(levels=4), tmp_path) if isinstance(event, LevelFinished)]
    assert densities == sorted(densities, reverse=True) and densities[0] == 1.0
    assert densities[-1] == pytest.approx(0.8**4, abs=0.06)


def test_two_runs_are_bit_equal_and_seeds_differ(tmp_path):
    first, second = (run(problem(seeds=(1, 2)), tmp_path / name)[-1].ticket for name in "ab")
    assert ticket_bytes(first.path) == ticket_bytes(second.path)
    assert not np.array_equal(first.weights(1)["0.weight"], first.weights(2)["0.weight"])


def test_the_reinit_control_has_the_mask_but_other_initial_weights(tmp_path):
    ticket = run(problem(levels=1), tmp_path)[-1].ticket
    mask, trained, control = ticket.mask(1), ticket.weights(1), ticket.weights(1, "reinit")
    assert not np.array_equal(trained["0.weight"], control["0.weight"])
    assert np.array_equal(control["0.weight"] != 0, mask["0.weight"] & (control["0.weight"] != 0))


class Stop(Exception):
    """Breaks a run off from inside."""


@pytest.mark.parametrize(
    ("function", "after"),
    [
        ("make", 1),
        ("make", 3),
        ("make", 6),
        ("make", 10),
        ("make", 14),
        ("channels_last", 2),
        ("two_inputs", 2),
        ("two_inputs", 7),
    ],
)
def test_a_run_broken_off_inside_a_level_ends_bit_equal(tmp_path, monkeypatch, function, after):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    whole = run(problem(function, rewind="20-steps"), tmp_path / "whole")[-1].ticket
    broken = problem(function, rewind="20-steps")
    seen = 0
    with pytest.raises(Stop):
        for event in find_levels(broken, tmp_path / "broken"):
            seen += isinstance(event, TrainingProgress)
            if seen > after:
                raise Stop
    events = run(broken, tmp_path / "broken")
    resumed = [event.step for event in events if isinstance(event, TrainingProgress)]
    total = [event for event in run(broken, tmp_path / "again") if isinstance(event, TrainingProgress)]
    assert len(resumed) < len(total)
    assert ticket_bytes(events[-1].ticket.path) == ticket_bytes(whole.path)


@pytest.mark.parametrize("function", ["slow", "slow_two_inputs"])
def test_kill_9_at_random_moments_and_rerun_is_byte_equal(tmp_path, function):
    arguments = ["find", f"{TINY}:{function}", "--levels", "2", "--seeds", "1,2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(out):
        return [*COMMAND, *arguments, "--out", str(tmp_path / out)]

    subprocess.run(command("whole"), check=True, capture_output=True, env=environment)
    kills, moments = 0, random.Random(7)
    for _ in range(3):
        process = subprocess.Popen(command("killed"), stderr=subprocess.PIPE, text=True, env=environment)
        new = (line for line in process.stderr if "level" in line and "finished before" not in line)
        for _line in itertools.islice(new, moments.randint(1, 3)):
            pass
        time.sleep(moments.uniform(0, 0.3))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    subprocess.run(command("killed"), check=True, capture_output=True, env=environment)
    whole, killed = (store.newest(tmp_path / out, "ticket", TicketError) for out in ("whole", "killed"))
    assert kills >= 1
    assert ticket_bytes(whole) == ticket_bytes(killed)


def test_a_finished_run_is_found_not_run_again(tmp_path):
    found = problem()
    run(found, tmp_path)
    events = run(found, tmp_path)
    assert len(events) == 1 and isinstance(events[0], RunFinished) and events[0].resumed


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    found = problem()
    first = find_levels(found, tmp_path)
    next(first)
    with pytest.raises(TicketError, match="another process"):
        run(found, tmp_path)
    first.close()
    assert isinstance(run(found, tmp_path)[-1], RunFinished)


def test_nan_loss_stops_names_the_step_and_keeps_the_levels_before(tmp_path):
    with pytest.raises(TicketError, match=r"loss is (nan|inf) at step \d+ of level 0, seed 1"):
        run(problem("diverging"), tmp_path)


def test_the_test_set_is_read_only_for_the_verdict(tmp_path):
    found = problem(seeds=(1, 2))
    reads = []
    real = training.outputs_of

    def noting(model, inputs, who):
        reads.append("test" if inputs is found.data.test.inputs else "validation")
        return real(model, inputs, who)

    with pytest.MonkeyPatch.context() as patch:
        for module in (training, conclusion):
            patch.setattr(module, "outputs_of", noting)
        run(found, tmp_path)
    assert "test" not in reads[: -2 * 3] and reads[-2 * 3 :] == ["test"] * 6


def test_an_edited_task_makes_another_ticket(tmp_path):
    copy = tmp_path / "task.py"
    copy.write_text(TINY.read_text())
    first = prepare(tasks.load(f"{copy}:make"), FindOptions(levels=1, seeds=(1,)), None).spec
    copy.write_text(TINY.read_text().replace("nn.Linear(12, 32)", "nn.Linear(12, 32, bias=True)"))
    second = prepare(tasks.load(f"{copy}:make"), FindOptions(levels=1, seeds=(1,)), None).spec
    assert first.id != second.id


def test_timings_are_logged_apart_from_the_ticket(tmp_path):
    ticket = run(problem(levels=1), tmp_path)[-1].ticket
    lines = [json.loads(line) for line in (ticket.path / "log.jsonl").read_text().splitlines()]
    assert [line["level"] for line in lines] == [0, 1, "reinit"]
    assert all(line["seconds"] > 0 for line in lines)


def test_levels_announce_themselves(tmp_path):
    started = [event for event in run(problem(levels=1), tmp_path) if isinstance(event, LevelStarted)]
    assert [event.level for event in started] == [0, 1, "reinit"]
    assert torch.get_num_threads() == problem().spec.threads
