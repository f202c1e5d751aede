"""A fault in each of a user's functions at each phase of find and export: it raises, exits, returns nonsense, prints,
changes the folder or the values that it is given."""

from __future__ import annotations

import itertools
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Optional

import click
import fault_runs
from fault_runs import OUT, Ran

PHASES = ("import", "trial", "step", "validation", "control", "test", "export")
HOOKS = ("make", "model", "data", "loss", "metric", "optimizer", "schedule", "augment", "forward", "step")
FAULTS = {
    "raises": "raise ValueError('spilled\\nmilk')",
    "stops iteration": "raise StopIteration",
    "raises a group": "raise ExceptionGroup('several', [ValueError('one')])",
    "exits": "sys.exit(0)",
    "exits with words": "raise SystemExit('enough')",
    "gives None": "return None",
    "gives a word": "return 'nonsense'",
    "gives NaN": "return torch.tensor(float('nan'))",
    "gives many": "return torch.zeros(7, 5, 3)",
    "prints": "print('spilled'); os.write(1, b'spilled'); os.system('echo spilled')",
    "changes the folder": "os.chdir('/')",
    "changes what it gets": "turn_round(locals())",
}
HARMLESS = ("prints", "changes the folder", "changes what it gets")
CASES = [(hook, phase, fault) for hook, phase, fault in itertools.product(HOOKS, PHASES, FAULTS)]
COUNT = len(CASES)
FIND = ("find", "hooks.py:make", "--seeds", "1,2", "--levels", "1", "--threads", "1")
EXPORT = (
    "export", "--target", "mine.toml", "--max-drop", "90", "--runtime", "onnxruntime", "--precision", "fp32",
)  # fmt: skip
TASK = '''
import os, pathlib, sys
import torch
from torch import nn
from edgeprune import Data, Recipe, Split, Task

HERE = pathlib.Path(__file__).parent.absolute()


def phase():
    """What edgeprune is doing, by its functions that are under way; the outermost that says something counts."""
    names, frame = set(), sys._getframe()
    while frame:
        names.add((frame.f_code.co_filename.rpartition("edgeprune/")[2], frame.f_code.co_name))
        frame = frame.f_back
    files = {file for file, _ in names}
    if any(file.startswith("export/") for file in files):
        return "export"
    if ("find/run.py", "test_metrics") in names or "find/resolution.py" in files:
        return "test"
    if ("find/run.py", "reinit") in names:
        return "control"
    if ("find/training.py", "note_validation") in names or ("find/training.py", "evaluate") in names:
        return "trial" if "find/rehearsal.py" in files else "validation"
    if ("find/training.py", "train") in names:
        return "step"
    return "trial" if "find/spec.py" in files else "import"


def at_fault(hook):
    if f"{hook} {phase()}" != os.environ.get("EDGEPRUNE_FAULT"):
        return False
    (HERE / "happened").touch()
    return True


def turn_round(given):
    """The last value first, in place."""
    for value in given.values():
        if isinstance(value, torch.Tensor):
            value.copy_(value.flip(0))
        elif hasattr(value, "__array__"):
            value[:] = value[::-1].copy()


class Net(nn.Sequential):
    def forward(self, x):
        if at_fault("forward"):
            FAULT
        return super().forward(x)


class Optimizer(torch.optim.SGD):
    def step(self, closure=None):
        if at_fault("step"):
            FAULT
        return super().step(closure)


def clouds(count, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 2, (count,), generator=generator)
    return Split(torch.randn(count, 8, generator=generator) + 2.0 * targets.reshape(-1, 1), targets)


def model():
    if at_fault("model"):
        FAULT
    return Net(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def data(folder):
    if at_fault("data"):
        FAULT
    return Data(clouds(48, 1), clouds(32, 2), clouds(32, 3))


def loss(output, targets):
    if at_fault("loss"):
        FAULT
    return nn.functional.cross_entropy(output, targets)


def metric(outputs, targets):
    if at_fault("metric"):
        FAULT
    return float((outputs.argmax(1) == targets).mean())


def optimizer(parameters):
    if at_fault("optimizer"):
        FAULT
    return Optimizer(parameters, lr=0.1)


def schedule(optimizer, steps):
    if at_fault("schedule"):
        FAULT
    return torch.optim.lr_scheduler.StepLR(optimizer, 4)


def augment(batch, generator):
    if at_fault("augment"):
        FAULT
    return batch + 0.1 * torch.randn(batch.shape, generator=generator)


def make():
    if at_fault("make"):
        FAULT
    return Task(name="hooks", model=model, data=data, loss=loss, metric=metric, metric_name="accuracy",
                optimizer=optimizer, schedule=schedule, augment=augment,
                recipe=Recipe(iterations=6, batch_size=24, evaluate_every=3))
'''


def run(count: int, seed: int, folder: Path, only: Optional[int] = None) -> list[str]:
    """Run find, or export of a ticket that was found without a fault, with one fault each; those that ended badly."""
    fault_runs.preload()
    return fault_runs.sweep(partial(case, folder, only is not None), min(count, COUNT), only)


def case(folder: Path, shown: bool, number: int) -> Optional[str]:
    """One fault: what is wrong with how it ended, or None."""
    hook, phase, fault = CASES[number]
    here = folder / f"case-{number}"
    here.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "targets" / "local.toml", here / "mine.toml")
    try:
        (here / "hooks.py").write_text(TASK.replace("FAULT", FAULTS[fault]))
        os.environ["EDGEPRUNE_FAULT"] = "" if phase == "export" else f"{hook} {phase}"
        ran = fault_runs.command(FIND, here)
        if phase == "export":
            if ran.code:
                return f"case {number}: no ticket to export: {ran.err}"
            os.environ["EDGEPRUNE_FAULT"] = f"{hook} {phase}"
            ran = fault_runs.command(EXPORT, here)
        elif fault == "changes what it gets" and ran.code == 0:
            os.environ["EDGEPRUNE_FAULT"] = ""
            ran = fault_runs.command(EXPORT, here)  # refused if the data are not what they were
        wrong = problem(ran, here, hook, phase, fault)
        if shown:
            click.echo(f"{hook} {fault} at {phase}: exit code {ran.code}\n{ran.out}{ran.err}")
        return f"case {number}, {hook} {fault} at {phase}: {wrong}" if wrong else None
    finally:
        os.environ.pop("EDGEPRUNE_FAULT", None)
        shutil.rmtree(here)


def problem(ran: Ran, here: Path, hook: str, phase: str, fault: str) -> str:
    """What is wrong with how a command with a fault ended, "" if nothing."""
    wrong = ran.problem()
    happened = (here / "happened").exists()
    if wrong or not happened or fault in HARMLESS:
        lines = [line for line in ran.out.splitlines() if not (here / line).is_dir()]
        return wrong or (f"exit code {ran.code}" if ran.code else "") or (f"stdout holds {lines}" if lines else "")
    if ran.out:
        return f"stdout holds {ran.out!r}"
    told = [line for line in ran.err.splitlines() if line.startswith("error:")]
    if ran.code == 0 and fault.startswith("gives") and hook in ("step", "schedule", "metric"):
        return (
            ""  # an optimizer's step may return anything, a schedule may be None, a tensor with one value is a number
        )
    if ran.code != 2 or len(told) != 1:
        return f"exit code {ran.code}, {len(told)} lines of error"
    if not fault.startswith("gives") and "hooks.py, line" not in told[0]:
        return f"the user's line is not named: {told[0]}"
    kept = list((here / OUT).glob("tickets/*/work/seed-*-level-*.safetensors"))
    if phase in ("control", "test") and sum("partial" not in path.name for path in kept) < 4:
        return "the finished levels are gone"
    return ""
