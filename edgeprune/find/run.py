"""One run: for each seed the levels prune -> rewind -> train, then the control, the choice and the verdict.

Every finished level is a file under <ticket>/work; a run that was killed finds them and goes on. When the ticket is
complete the work folder goes away.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Optional

import torch

from edgeprune import store
from edgeprune.errors import TicketError
from edgeprune.find.checkpoint import copy_state
from edgeprune.find.conclusion import REINIT, conclude
from edgeprune.find.events import ControlFinished, Event, FileSetAside, LevelFinished, LevelStarted, RunFinished
from edgeprune.find.origin import random_weights
from edgeprune.find.spec import Problem
from edgeprune.find.training import LevelStart, Trained, to_arrays, to_weights, train
from edgeprune.find.verdict import choose_level
from edgeprune.find.work import LevelState, WorkFolder, move_aside
from edgeprune.mask import Array
from edgeprune.tasks.seeds import derived_seed, seed_all
from edgeprune.ticket import LevelRecord, Ticket


def folder_of(problem: Problem, out: Path) -> Path:
    """Where the ticket of a problem lies, or will."""
    return out / "tickets" / f"{problem.loaded.task.name}-{problem.spec.id[:12]}"


def find_levels(problem: Problem, out: Path) -> Iterator[Event]:
    """Run a spec to its end, or on from where an earlier process stopped. TicketError if another one is at it."""
    spec = problem.spec
    # Absolute, because a user's code may change the current folder.
    folder = folder_of(problem, out.absolute())
    work = WorkFolder(folder, spec.tied)
    with store.lock(folder, TicketError):
        finished = yield from _finished(folder)
        if finished is not None:
            work.remove()
            yield RunFinished(finished, resumed=True)
            return
        torch.set_num_threads(spec.threads)
        run = _Run(problem, work)
        levels = range(spec.levels + 1)
        for seed in spec.seeds:
            for level in levels:
                yield from run.level(seed, level)
        records = {seed: [work.read(seed, level).record for level in levels] for seed in spec.seeds}
        chosen = choose_level(records, spec, problem.loaded.task.measure)
        for seed in spec.seeds if not problem.no_reinit else ():
            yield from run.reinit(seed, chosen)
        ticket = conclude(problem, run.model, work, records, chosen)
    yield RunFinished(ticket, resumed=False)


def _finished(folder: Path) -> Generator[Event, None, Optional[Ticket]]:
    """The ticket that is complete already; None if there is none, or if a file of it was damaged and set aside."""
    if not (folder / "ticket.json").is_file():
        return None
    try:
        ticket = Ticket.load(folder)
        ticket.verify()
    except TicketError:
        yield FileSetAside(move_aside(folder / "ticket.json"))
        return None
    return ticket


class _Run:
    """The steps of one run, each of which its work folder keeps."""

    def __init__(self, problem: Problem, work: WorkFolder) -> None:
        self.problem, self.spec, self.task, self.work = problem, problem.spec, problem.loaded.task, work
        self.model = self.task.model()

    def level(self, seed: int, level: int) -> Iterator[Event]:
        """One level of one seed, unless it is finished: prune by the magnitude of the trained weights, rewind what is
        left, train it [iterative magnitude pruning: Frankle & Carbin 2019, with rewinding: 2020]."""
        yield from map(FileSetAside, self.work.set_damaged_aside(seed, level))
        if self.work.has(seed, level):
            yield LevelFinished(seed, self.work.read(seed, level).record, 0.0)
            return
        start = self.dense(seed) if level == 0 else self.pruned(seed, level)
        began = time.monotonic()
        trained = yield from self.train(start)
        rewind = start.weights if trained.rewind is None else trained.rewind
        record = self.keep(start, trained, level, to_arrays(rewind), began)
        yield LevelFinished(seed, record, time.monotonic() - began)

    def dense(self, seed: int) -> LevelStart:
        """Where level 0 starts: initial weights of the seed, all of them but for zeros that the model brings along."""
        seed_all(seed)
        weights = copy_state(self.task.model())
        mask = self.problem.pruner.first(to_arrays(weights), self.spec.revive)
        checkpoint, keep_rewind = self.work.checkpoint_file(seed, 0), self.spec.rewind_step > 0
        return LevelStart(weights, mask, 0, seed, 0, checkpoint, keep_rewind)

    def pruned(self, seed: int, level: int) -> LevelStart:
        """Where a level after the dense one starts: the rewind weights and a mask that is part of the one before."""
        pruner, before = self.problem.pruner, self.work.read(seed, level - 1)
        first = before.mask if level == 1 else self.work.read(seed, 0).mask
        mask = pruner.prune(before.weights, before.mask, first, self.spec.rates[:level])
        if not mask.is_subset_of(before.mask):
            raise TicketError(f"level {level}: pattern {self.spec.pattern} revived a pruned weight")
        weights, checkpoint = to_weights(before.rewind), self.work.checkpoint_file(seed, level)
        return LevelStart(weights, mask, self.spec.rewind_step, seed, level, checkpoint, silent=pruner.silent(mask))

    def reinit(self, seed: int, chosen: int) -> Iterator[Event]:
        """Train the chosen level's mask from other initial weights: the control of the lottery ticket hypothesis."""
        yield from map(FileSetAside, self.work.set_damaged_aside(seed, REINIT))
        if self.work.has(seed, REINIT):
            return
        mask = self.work.read(seed, chosen).mask
        fresh = random_weights(self.task, derived_seed(seed, REINIT), self.problem.origin)
        checkpoint = self.work.checkpoint_file(seed, REINIT)
        start = LevelStart(fresh, mask, 0, seed, REINIT, checkpoint, silent=self.problem.pruner.silent(mask))
        began = time.monotonic()
        trained = yield from self.train(start)
        record = self.keep(start, trained, chosen, {}, began)
        yield ControlFinished(seed, record.validation, time.monotonic() - began)

    def train(self, start: LevelStart) -> Generator[Event, None, Trained]:
        """Train from a start, with an event when it begins and at each validation."""
        yield LevelStarted(start.seed, start.level, self.spec.levels, start.mask.density)
        trained = yield from train(self.model, self.task, self.problem.data, self.spec, start)
        return trained

    def keep(
        self, start: LevelStart, trained: Trained, level: int, rewind: dict[str, Array], began: float
    ) -> LevelRecord:
        """Write down what was trained. level: whose mask that was; rewind: what the next level goes back to."""
        mask = start.mask
        record = LevelRecord(level, mask.density, mask.densities(), trained.validation, trained.loss, trained.step)
        self.work.write(start.seed, start.level, LevelState(record, mask, to_arrays(trained.weights), rewind))
        self.work.log(start.seed, start.level, time.monotonic() - began)
        return record
