"""`find` and `export`: from a task to a ticket to bundles."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from edgeprune.cli.early import check_export
from edgeprune.cli.fields import filled
from edgeprune.cli.parts import DATA_DIR, JSON, OUT, newest, print_path, users_code
from edgeprune.errors import ExitCode, TicketError, VerificationError
from edgeprune.options import ExportOptions, FindOptions
from edgeprune.progress import ProgressDisplay, say, show_seconds, warn

if TYPE_CHECKING:
    from edgeprune.artifact import Artifact
    from edgeprune.find import Event, Problem

LAYERS_SHOWN = 20


@click.command()
@click.argument("task")
@click.option("--target", help="Device to find for: sets the default pattern.")
@filled(FindOptions, "options")
@click.option("--export-later", is_flag=True, help="Train even if the network cannot be exported.")
@DATA_DIR
@OUT
@JSON
def find(
    task: str, target: Optional[str], options: FindOptions, export_later: bool, data_dir: Optional[Path], out: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Find a ticket of TASK: a built-in name (see `edgeprune tasks`), file.py:function or module:function.

    \b
    edgeprune find digits
    edgeprune find mnist --levels 10 --seeds 1,2,3 --data-dir data
    edgeprune find mnist-cnn --target rpi4 --density 0.1
    edgeprune find mytask.py:make --pattern block:1x4 --rate 0.2,0.2,0.1,0.05
    """
    # Threads that wait by spinning make a level ten times slower as soon as another process wants their core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from edgeprune import tasks
    from edgeprune.find import RunFinished, doubts, find_levels, prepare
    from edgeprune.report import density_plot, summary

    options = replace(options, pattern=_pattern(options.pattern, target))
    # Absolute, because the task's code may change the current folder.
    folder, data_dir = out.absolute(), data_dir and data_dir.absolute()
    with users_code("find") as results:
        loaded = tasks.load(task)
        problem = prepare(loaded, options, data_dir)
        for doubt in doubts(problem):
            warn(doubt)
        if not export_later:
            check_export(problem, target, folder)
        ticket = None
        with ProgressDisplay(len(problem.spec.seeds) * (problem.spec.levels + 2)) as display:
            for event in find_levels(problem, folder):
                _show(event, display, problem)
                ticket = event.ticket if isinstance(event, RunFinished) else None
        if ticket is None:
            raise TicketError("the run ended without a ticket")
        density_plot(ticket, ticket.path / "density.png")
        say(ticket.verdict.statement)
        print_path(out / ticket.path.relative_to(folder), summary(ticket), as_json, results)


def _pattern(pattern: Optional[str], target: Optional[str]) -> Optional[str]:
    """The pattern asked for, else the first that pays off on the target."""
    from edgeprune.target import load_target

    paying = load_target(target).paying if target else []
    if pattern is not None or not paying:
        return pattern
    say(f"pattern {paying[0].pattern}: {paying[0].why} (target {target})")
    return paying[0].pattern


def _show(event: Event, display: ProgressDisplay, problem: Problem) -> None:
    """One event of find on the display; a level or a control is one unit of work."""
    from edgeprune import find

    spec, metric = problem.spec, problem.loaded.task.metric_name
    if isinstance(event, find.RunFinished):
        if event.resumed:
            say("this ticket is complete already: nothing to do")
        return
    if isinstance(event, find.FileSetAside):
        display.line(f"damaged: {event.path} was set aside; what it held is made again")
        return
    place = spec.seeds.index(event.seed)
    # The controls come after all levels of all seeds.
    base = place * (spec.levels + 1)
    end = len(spec.seeds) * (spec.levels + 1) + place
    if isinstance(event, find.LevelFinished):
        done, record = base + event.record.level + 1, event.record
        if not event.seconds:
            display.skip(1)
        display.update(done, f"seed {event.seed}")
        display.line(
            f"seed {event.seed} level {record.level:2d}/{spec.levels}  density {100 * record.density:6.2f} %  "
            f"{metric} {record.validation:.4f} (validation)  loss {record.loss:.4f}  "
            + (show_seconds(event.seconds) if event.seconds else "finished before")
        )
    elif isinstance(event, find.ControlFinished):
        display.update(end + 1, f"seed {event.seed}")
        display.line(f"seed {event.seed} control: random reinit, {metric} {event.validation:.4f} (validation)")
    elif isinstance(event, find.TrainingProgress):
        start = end if event.level == "reinit" else base + int(event.level)
        text = f"seed {event.seed} level {event.level} step {event.step}/{event.iterations} loss {event.loss:.4f} "
        display.update(start + event.step / event.iterations, f"{text}{metric} {event.validation:.4f}")


@click.command()
@click.argument("ticket", required=False, type=click.Path(path_type=Path))
@click.option("--target", required=True, help="Name (see `edgeprune targets`) or a TOML file of your own.")
@filled(ExportOptions, "options")
@DATA_DIR
@OUT
@JSON
def export(
    ticket: Optional[Path], target: str, options: ExportOptions, data_dir: Optional[Path], out: Path, as_json: bool
) -> None:
    """Build a bundle of TICKET (else the newest) per runtime and precision of a target, and verify each.

    \b
    edgeprune export --target rpi4
    edgeprune export --target rpi4 --runtime litert --precision int8
    edgeprune export --target rpi5 --runtime onnxruntime --portable
    edgeprune export edgeprune-out/tickets/digits-0123456789ab --target ./mine.toml --seed 2
    """
    from edgeprune.export import Refused
    from edgeprune.export import export as run
    from edgeprune.report import summary
    from edgeprune.target import load_target
    from edgeprune.ticket import Ticket

    machine = load_target(target)
    found = Ticket.load(ticket or newest(out, "ticket", TicketError))
    folder, data_dir = out.absolute(), data_dir and data_dir.absolute()
    summaries, refused, told = [], list[Refused](), set[str]()
    with users_code("export") as results:
        for artifact in run(found, machine, options, data_dir, folder):
            if isinstance(artifact, Refused):
                warn(f"not built: {artifact.runtime} {artifact.precision}: {artifact.error}")
                refused.append(artifact)
                continue
            _say_artifact(artifact)
            _say_kept(artifact, told)
            if artifact.variant == "ticket":
                path = out / artifact.path.relative_to(folder)
                summaries.append({"path": str(path), **summary(artifact)})
                if not as_json:
                    click.echo(path, file=results)
        if as_json:
            click.echo(json.dumps(summaries, indent=1), file=results)
    # What a runtime cannot run is no failure as long as another one can; a bundle that computes something else is.
    if any(isinstance(refusal.error, VerificationError) for refusal in refused):
        sys.exit(ExitCode.FAILED)


def _say_artifact(artifact: Artifact) -> None:
    from edgeprune.report import size_parts

    say(
        f"{artifact.runtime} {artifact.precision} {artifact.variant}: {artifact.metric_name} "
        f"{artifact.metric_runtime:.4f} (PyTorch {artifact.metric_torch:.4f}), largest difference "
        f"{artifact.parity_max_abs:.2g}, {artifact.size_bytes:,} bytes ({size_parts(artifact)}), "
        f"zeros lost {artifact.zeros_lost}, "
        f"weights removed {artifact.weights_removed} of {artifact.weights_total}"
    )
    if artifact.mixed:
        say(f"  {artifact.mixed.words}")
    warn_of_noise(artifact)
    _say_layers(artifact)


def _say_kept(artifact: Artifact, told: set[str]) -> None:
    """Dead channels that stay, and why: once for all bundles of a network."""
    fresh = [sentence for sentence in artifact.channels_kept if sentence not in told]
    told.update(fresh)
    for sentence in fresh[:LAYERS_SHOWN]:
        say(f"  {sentence}")
    if len(fresh) > LAYERS_SHOWN:
        say(f"  dead channels stay in {len(fresh) - LAYERS_SHOWN} more layers: see channels_kept of the manifest")


def warn_of_noise(artifact: Artifact) -> None:
    """The outputs of an int8 bundle that are far from PyTorch's, which the metric need not show."""
    from edgeprune.report import signal_words

    for signal in artifact.signals:
        if signal.is_weak:
            name = f"{artifact.runtime} {artifact.precision} {artifact.variant}"
            warn(f"{name}: signal to noise of {signal.output} is {signal_words(signal)}, or take --precision fp32")


def _say_layers(artifact: Artifact) -> None:
    """What runs each layer and why: a line a layer, or one for all if there are many."""
    from edgeprune.report import kernels_words

    layers, times = artifact.layers, artifact.kernel_times
    if times is not None:
        say(f"  kernels chosen by {kernels_words(artifact)}")
    if len(layers) > LAYERS_SHOWN:
        sparse = [layer for layer in layers if layer.kernel == "sparse"]
        gains = sorted(layer.predicted_gain for layer in sparse)
        by = "predicted" if times is None else "measured"
        predicted = f", {by} {gains[0]:.1f}x to {gains[-1]:.1f}x" if gains else f" ({layers[0].why})"
        say(f"  {len(sparse)} of {len(layers)} layers run sparse{predicted}; edgeprune inspect lists them")
        return
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        say(f"  {layer.name} {layer.op} {shape}, density {100 * layer.density:.1f} %: {layer.why}")
