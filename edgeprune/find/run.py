"""One run: for each seed the levels train -> prune -> rewind, then the control, the choice and the verdict.

Every finished level is a file under <ticket>/work; a run that was killed finds them and goes on. When the ticket is
complete the work folder goes away.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch

from edgeprune import store
from edgeprune.errors import TicketError
from edgeprune.find import work
from edgeprune.find.checkpoint import Weights, copy_state
from edgeprune.find.events import (
    ControlFinished,
    Event,
    FileSetAside,
    LevelFinished,
    LevelStarted,
    RunFinished,
    TrainingProgress,
)
from edgeprune.find.origin import random_weights
from edgeprune.find.resolution import resampled, resolution
from edgeprune.find.spec import Problem
from edgeprune.find.training import LevelStart, Trained, outputs_of, to_arrays, to_weights, train
from edgeprune.find.verdict import Chosen, choose_level, judge
from edgeprune.find.work import LevelState
from edgeprune.mask import Array, Mask
from edgeprune.tasks.seeds import derived_seed, seed_all
from edgeprune.ticket import LevelRecord, SeedRecord, Ticket, write_seed

REINIT = "reinit"


def folder_of(problem: Problem, out: Path) -> Path:
    """Where the ticket of a problem lies, or will."""
    return out / "tickets" / f"{problem.loaded.task.name}-{problem.spec.id[:12]}"


def find_levels(problem: Problem, out: Path) -> Iterator[Event]:
    """Run a spec to its end, or on from where an earlier process stopped. TicketError if another one is at it."""
    spec = problem.spec
    # Absolute, because a user's code may change the current folder.
    folder = folder_of(problem, out.absolute())
    with store.lock(folder, TicketError):
        finished = yield from _finished(folder)
        if finished is not None:
            shutil.rmtree(folder / "work", ignore_errors=True)  # left by a kill just after ticket.json was written
            yield RunFinished(finished, resumed=True)
            return
        torch.set_num_threads(spec.threads)
        run = _Run(problem, folder)
        for seed in spec.seeds:
            for level in range(spec.levels + 1):
                yield from run.level(seed, level)
        measure = problem.loaded.task.measure
        chosen = choose_level({seed: run.records(seed) for seed in spec.seeds}, spec, measure)
        for seed in spec.seeds if not problem.no_reinit else ():
            yield from run.reinit(seed, chosen)
        ticket = run.finish(chosen)
    yield RunFinished(ticket, resumed=False)


def _finished(folder: Path) -> Generator[Event, None, Optional[Ticket]]:
    """The ticket that is complete already; None if there is none, or if a file of it was damaged and set aside."""
    if not (folder / "ticket.json").is_file():
        return None
    try:
        ticket = Ticket.load(folder)
        ticket.verify()
    except TicketError:
        yield FileSetAside(work.move_aside(folder / "ticket.json"))
        return None
    return ticket


class _Run:
    """The files of one run and the steps that make them."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        self.problem, self.spec, self.task = problem, problem.spec, problem.loaded.task
        self.folder, self.work = folder, folder / "work"
        self.pruner = problem.pruner
        self.model = self.task.model()

    def file(self, seed: int, level: Union[int, str]) -> Path:
        return self.work / f"seed-{seed}-level-{level}.safetensors"

    def level(self, seed: int, level: int) -> Iterator[Event]:
        """Train one level of one seed unless its file is there."""
        yield from self.set_damaged_aside(seed, level)
        if self.file(seed, level).is_file():
            yield LevelFinished(seed, self.read(seed, level).record, 0.0)
            return
        if level == 0:
            rewind = self.fresh(seed)
            mask = self.pruner.first(to_arrays(rewind), self.spec.revive)
        else:
            before = self.read(seed, level - 1)
            rewind, mask = to_weights(before.rewind), self.prune(before, self.read(seed, 0).mask, level)
        dense = level == 0
        silent = {} if dense else self.pruner.silent(mask)
        step = 0 if dense else self.spec.rewind_step
        keep_rewind = dense and self.spec.rewind_step > 0
        partial = self.partial(seed, level)
        start = LevelStart(rewind, mask, step, seed, level, partial, keep_rewind, silent)
        began = time.monotonic()
        trained = yield from self.train(start)
        record = LevelRecord(level, mask.density, mask.densities(), trained.validation, trained.loss, trained.step)
        rewind = trained.rewind if trained.rewind is not None else rewind
        self.write(seed, level, LevelState(record, mask, to_arrays(trained.weights), to_arrays(rewind)))
        yield self.logged(LevelFinished(seed, record, time.monotonic() - began))

    def reinit(self, seed: int, chosen: int) -> Iterator[Event]:
        """Train the chosen level's mask from other initial weights: the control of the lottery ticket hypothesis."""
        yield from self.set_damaged_aside(seed, REINIT)
        if self.file(seed, REINIT).is_file():
            return
        ticket = self.read(seed, chosen)
        fresh = random_weights(self.task, derived_seed(seed, REINIT), self.problem.origin)
        partial = self.partial(seed, REINIT)
        start = LevelStart(fresh, ticket.mask, 0, seed, REINIT, partial, silent=self.pruner.silent(ticket.mask))
        began = time.monotonic()
        trained = yield from self.train(start)
        record = LevelRecord(
            chosen, ticket.mask.density, ticket.mask.densities(), trained.validation, trained.loss, trained.step
        )
        self.write(seed, REINIT, LevelState(record, ticket.mask, to_arrays(trained.weights), {}))
        yield self.logged(ControlFinished(seed, trained.validation, time.monotonic() - began))

    def train(self, start: LevelStart) -> Generator[Event, None, Trained]:
        yield LevelStarted(start.seed, start.level, self.spec.levels, start.mask.density)
        training = train(self.model, self.task, self.problem.data, self.spec, start)
        while True:
            try:
                progress = next(training)
            except StopIteration as end:
                trained: Trained = end.value
                return trained
            yield TrainingProgress(
                start.seed, start.level, progress.step, progress.iterations, progress.loss, progress.validation
            )

    def partial(self, seed: int, level: Union[int, str]) -> Path:
        return self.work / f"seed-{seed}-level-{level}.partial.safetensors"

    def fresh(self, seed: int) -> Weights:
        """Initial weights of a seed."""
        seed_all(seed)
        return copy_state(self.task.model())

    def prune(self, before: LevelState, first: Mask, level: int) -> Mask:
        """The next mask, by the magnitude of the trained weights; never larger than the last one."""
        mask = self.pruner.prune(before.weights, before.mask, first, self.spec.rates[:level])
        if not mask.is_subset_of(before.mask):
            raise TicketError(f"level {level}: pattern {self.spec.pattern} revived a pruned weight")
        return mask

    def set_damaged_aside(self, seed: int, level: Union[int, str]) -> Iterator[Event]:
        """Get what cannot be used any more of a level out of the way."""
        for path in (self.file(seed, level), self.partial(seed, level)):
            aside = work.set_aside(path)
            if aside is not None:
                yield FileSetAside(aside)

    def write(self, seed: int, level: Union[int, str], state: LevelState) -> None:
        work.write_level(self.file(seed, level), state)
        self.partial(seed, level).unlink(missing_ok=True)

    def read(self, seed: int, level: Union[int, str]) -> LevelState:
        return work.read_level(self.file(seed, level), self.spec.tied)

    def records(self, seed: int) -> list[LevelRecord]:
        return [self.read(seed, level).record for level in range(self.spec.levels + 1)]

    def logged(self, event: Union[LevelFinished, ControlFinished]) -> Event:
        """Note the time a level took in log.jsonl: timings are no part of the ticket, which must not depend on them."""
        level = event.record.level if isinstance(event, LevelFinished) else REINIT
        line = json.dumps({"seed": event.seed, "level": level, "seconds": round(event.seconds, 3)})
        path = self.folder / "log.jsonl"
        with store.naming(path), path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        return event

    def finish(self, chosen: int) -> Ticket:
        """Read the test set, for the chosen level only; write the ticket; drop the work folder."""
        seeds: list[SeedRecord] = []
        test: dict[int, dict[str, float]] = {}
        again: dict[int, dict[str, Array]] = {}
        for seed in self.spec.seeds:
            states = {"ticket": self.read(seed, chosen), "dense": self.read(seed, 0)}
            if not self.problem.no_reinit:
                states["reinit"] = self.read(seed, REINIT)
            test[seed], again[seed] = self.test_metrics(states)
            groups = {
                "mask": dict(states["ticket"].mask),
                "trained": states["ticket"].weights,
                "dense": states["dense"].weights,
                "rewind": states["ticket"].rewind,
                "reinit": states["reinit"].weights if "reinit" in states else {},
            }
            sha256 = write_seed(self.folder, seed, groups)
            control = states["reinit"].record.validation if "reinit" in states else None
            seeds.append(SeedRecord(seed, tuple(self.records(seed)), test[seed], control, sha256))
        density = float(np.mean([record.levels[chosen].density for record in seeds]))
        loaded = self.problem.loaded
        ticket = Ticket(
            path=self.folder,
            spec=self.spec,
            task_name=self.task.name,
            task_file=str(loaded.file or ""),
            metric_name=self.task.metric_name,
            parameters=self.problem.parameters,
            seeds=tuple(seeds),
            verdict=judge(
                test,
                Chosen(chosen, density, self.pruner.whole_density(density)),
                self.spec,
                self.task.measure,
                resolution(again, len(self.problem.data.test)),
                self.problem.no_reinit,
            ),
            smaller_is_better=self.task.smaller_is_better,
            metric_unit=self.task.metric_unit,
            data_dir=self.problem.data_dir,
        )
        ticket.save()
        shutil.rmtree(self.work)
        return ticket

    def test_metrics(self, states: Mapping[str, LevelState]) -> tuple[dict[str, float], dict[str, Array]]:
        """Test metric of each network of a seed, and the metric on each resample of the test examples."""
        metrics, again = {}, {}
        split = self.problem.data.test
        targets = split.targets.numpy()
        for role, state in states.items():
            self.model.load_state_dict(to_weights(state.weights))
            outputs = outputs_of(self.model, self.task, split)
            metrics[role] = self.task.metric(outputs, targets)
            if len(self.spec.seeds) > 1:
                again[role] = resampled(self.task, outputs, targets)
        return metrics, again
