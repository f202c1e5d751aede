"""From a task and the command's options to the spec that fixes a run's result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import nn

from edgeprune import patterns, tasks
from edgeprune.find.origin import Origin, origin_of, why_no_random_weights
from edgeprune.find.pruning import Pruner, make_pruner
from edgeprune.find.rehearsal import rehearse
from edgeprune.find.resolution import margin_doubt
from edgeprune.find.schedule import resolve_rates
from edgeprune.find.training import to_arrays
from edgeprune.mask import BoolArray, Mask
from edgeprune.options import MARGIN, FindOptions, in_metric
from edgeprune.task import Data, rows
from edgeprune.tasks import LoadedTask
from edgeprune.tasks.plain import FOLDED, plain_name, without_parametrizations
from edgeprune.tasks.seeds import seed_all, seeded
from edgeprune.ticket import FindSpec, rewind_step

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Problem:
    """A task with its data in memory and the spec of the run. parameters: trainable ones of the dense model. pruner:
    what is pruned of it. origin: what its weights start from. notes: what the user should know before it is trained.
    data_dir: absolute path of the folder that the data came from, or "". no_reinit: why there can be no
    random-reinit control, or ""."""

    loaded: LoadedTask
    data: Data
    spec: FindSpec
    parameters: int
    pruner: Pruner
    origin: Origin
    notes: tuple[str, ...]
    data_dir: str = ""
    no_reinit: str = ""


def prepare(loaded: LoadedTask, options: FindOptions, data_dir: Optional[Path]) -> Problem:
    """Load the data, check that the model runs on them, and fix the spec."""
    task, recipe = loaded.task, loaded.task.recipe
    margin = in_metric(task.measure, "--margin", options.margin, MARGIN)
    pattern = patterns.load(options.pattern or patterns.DEFAULT)
    data_dir = data_dir and data_dir.absolute()
    with loaded.reads.recording("data"):
        data = tasks.load_data(task, data_dir)
    with loaded.reads.recording("model"):
        tasks.check(task, data)
        origin = origin_of(task)
        seed_all(options.seeds[0] if options.seeds else 0)
        model = task.model()
    pruner = make_pruner(model, rows(data.train.arguments, slice(2)), recipe.rate_scale, pattern, recipe.scope)
    first = pruner.first(to_arrays(model.state_dict()), options.revive)
    rates = resolve_rates(
        options.levels,
        options.rates,
        options.density,
        recipe.rate,
        lambda tried: pruner.reached(tried, first),
        pattern,
    )
    epoch = max(1, len(data.train) // min(recipe.batch_size, len(data.train)))
    spec = FindSpec(
        task=loaded.reference,
        task_sha256=loaded.source_sha256,
        data_sha256=tasks.data_sha256(data),
        pattern=pattern.name,
        rates=rates,
        scope=pruner.scope,
        rate_scale=pruner.factors,
        iterations=recipe.iterations,
        batch_size=recipe.batch_size,
        evaluate_every=recipe.evaluate_every or epoch,
        rewind_step=rewind_step(options.rewind or recipe.rewind, epoch),
        seeds=options.seeds,
        margin=margin,
        confidence=CONFIDENCE,
        threads=options.threads or _threads(pruner.prunable.shapes),
        torch_version=torch.__version__,
        revive=options.revive,
        tied=pruner.prunable.tied,
        files=loaded.files(data_dir),
        weights_sha256=origin.sha256,
    )
    notes = [*_notes(model, pruner, first, options.revive)]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    why = why_no_random_weights(task, origin)
    notes += [*_notes_of_origin(origin, why), *rehearse(model, task, data, spec)]
    return Problem(loaded, data, spec, trainable, pruner, origin, tuple(notes), str(data_dir or ""), why)


def _notes_of_origin(origin: Origin, no_reinit: str) -> Iterator[str]:
    """What it means that the model brings weights along, or draws them from elsewhere."""
    if origin.given:
        control = f"not possible: {no_reinit}" if no_reinit else "each layer's own reset_parameters"
        yield (
            f"the model starts from given weights ({len(origin.given)} tensors, such as {min(origin.given)}): seeds "
            f"differ in the order of the examples; the random-reinit control is {control}"
        )
    if not origin.repeatable:
        yield "two networks of one seed differ, so a run cannot be repeated: draw from torch's random numbers"


def _notes(model: nn.Module, pruner: Pruner, first: Mask, revive: bool) -> Iterator[str]:
    """What becomes of parts of the model that are not trained and pruned as they come."""
    folded = getattr(model, FOLDED, ())
    if folded:
        yield f"weight or spectral norm of {', '.join(folded)} is folded: the weights themselves are trained and pruned"
    frozen = [name for name, why in pruner.prunable.dense.items() if why == "frozen"]
    if frozen:
        yield f"frozen, so neither trained nor pruned: {', '.join(frozen)}"
    zeros = first.total - first.nonzero
    if zeros and not revive:
        yield f"{zeros:,} weights are zero already and stay zero; they count as pruned (--revive lets them grow)"
    yield from pruner.told()


def _threads(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """PyTorch's own choice for convolutions; one for linear layers alone, whose steps are shorter than the time that
    threads need to meet."""
    return torch.get_num_threads() if any(len(shape) > 2 for shape in shapes.values()) else 1


def doubts(problem: Problem) -> list[str]:
    """Reasons why a ticket may make little sense here, as sentences for the user; nothing is forbidden."""
    spec = problem.spec
    found = list(problem.notes)
    examples = len(problem.data.train)
    if examples < 10_000:
        found.append(f"{examples} training examples are few: below 10,000 a ticket may overfit")
    if problem.parameters < 1_000_000:
        found.append(f"the model has {problem.parameters:,} parameters: below a million there is little to win")
    if spec.rates[0] > 0.5:
        found.append(f"the first pruning removes {100 * spec.rates[0]:.0f} %: above 50 % tickets are mostly lost")
    if spec.rewind_step > 0.5 * spec.iterations:
        found.append("rewinding past half of the training is close to fine-tuning, not a ticket")
    doubt = margin_doubt(
        problem.loaded.task.measure, len(problem.data.test), spec.margin, spec.confidence, len(spec.seeds)
    )
    if doubt and len(spec.seeds) > 1:
        found.append(doubt)
    if len(spec.seeds) == 1:
        found.append("one seed says nothing about chance: use three or more for a verdict")
    return found


def sketch(problem: Problem) -> tuple[nn.Module, dict[str, BoolArray]]:
    """An untrained network of the first seed with the zeros of the last level, and the masks that say where: those that
    its first weights' magnitudes give. It is parametrized no more. All random numbers are left as they were."""
    spec, pruner, model = problem.spec, problem.pruner, _untrained(problem)
    weights = to_arrays(model.state_dict())
    first = pruner.first(weights, spec.revive)
    masks = pruner.prune(weights, first, first, spec.rates)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, alive in {**masks, **pruner.silent(masks)}.items():
            parameters[name].mul_(torch.from_numpy(np.array(alive)))
    return without_parametrizations(model), {plain_name(name): array for name, array in masks.items()}


def untrained(problem: Problem) -> tuple[nn.Module, dict[str, float]]:
    """The network of the first seed before anything is pruned, parametrized no more, in evaluation mode; and the factor
    on the rate of each of its weights that can be pruned, without those that are kept dense."""
    factors = {plain_name(name): factor for name, factor in problem.pruner.factors.items() if factor}
    return without_parametrizations(_untrained(problem)), factors


def _untrained(problem: Problem) -> nn.Module:
    with seeded(problem.spec.seeds[0]):
        return problem.loaded.task.model().eval()
