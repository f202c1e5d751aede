"""The end of a run: the test set is read, for the chosen level only, the verdict is given and the ticket written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from edgeprune.find.resolution import resampled, resolution
from edgeprune.find.spec import Problem
from edgeprune.find.training import to_weights
from edgeprune.find.verdict import Chosen, judge
from edgeprune.find.work import LevelState, WorkFolder
from edgeprune.mask import Array
from edgeprune.tasks.evaluation import metric_of, outputs_of
from edgeprune.ticket import LevelRecord, SeedRecord, Ticket, write_seed

REINIT = "reinit"


def conclude(
    problem: Problem, model: nn.Module, work: WorkFolder, records: Mapping[int, Sequence[LevelRecord]], chosen: int
) -> Ticket:
    """The ticket of a run whose levels and controls are finished; the work folder goes away. records: of each seed's
    levels; model: to run the networks in."""
    seeds: list[SeedRecord] = []
    test: dict[int, dict[str, float]] = {}
    again: dict[int, dict[str, Array]] = {}
    for seed in problem.spec.seeds:
        states = {"ticket": work.read(seed, chosen), "dense": work.read(seed, 0)}
        if not problem.no_reinit:
            states[REINIT] = work.read(seed, REINIT)
        test[seed], again[seed] = _test_metrics(problem, model, states)
        groups = {
            "mask": states["ticket"].mask,
            "trained": states["ticket"].weights,
            "dense": states["dense"].weights,
            "rewind": states["ticket"].rewind,
            "reinit": states[REINIT].weights if REINIT in states else {},
        }
        sha256 = write_seed(work.ticket, seed, groups)
        control = states[REINIT].record.validation if REINIT in states else None
        seeds.append(SeedRecord(seed, tuple(records[seed]), test[seed], control, sha256))
    density = float(np.mean([record.levels[chosen].density for record in seeds]))
    verdict = judge(
        test,
        Chosen(chosen, density, problem.pruner.whole_density(density)),
        problem.spec,
        problem.loaded.task.measure,
        resolution(again, len(problem.data.test)),
        problem.no_reinit,
    )
    task = problem.loaded.task
    ticket = Ticket(
        path=work.ticket,
        spec=problem.spec,
        task_name=task.name,
        task_file=str(problem.loaded.file or ""),
        metric_name=task.metric_name,
        parameters=problem.parameters,
        seeds=tuple(seeds),
        verdict=verdict,
        smaller_is_better=task.smaller_is_better,
        metric_unit=task.metric_unit,
        data_dir=problem.data_dir,
    )
    ticket.save()
    work.remove()
    return ticket


def _test_metrics(
    problem: Problem, model: nn.Module, states: Mapping[str, LevelState]
) -> tuple[dict[str, float], dict[str, Array]]:
    """Test metric of each network of a seed, and the metric on each resample of the test examples."""
    task, split = problem.loaded.task, problem.data.test
    targets = split.targets.numpy()
    metrics, again = {}, {}
    for role, state in states.items():
        model.load_state_dict(to_weights(state.weights))
        outputs = outputs_of(model, split.inputs, f"task {task.name}")
        metrics[role] = metric_of(task, outputs, targets)
        if len(problem.spec.seeds) > 1:
            again[role] = resampled(task, outputs, targets)
    return metrics, again
