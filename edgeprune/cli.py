"""The command line: options to specs, events to lines, errors to exit codes. Nothing else.

Exit codes: 0 done; 1 a run or a gate failed; 2 usage or bad input; 3 the device's state forbids a fair measurement; 4 a
gate's interval straddles its budget; 130 interrupted. A command prints the path of what it wrote on stdout, and
everything else on stderr.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from edgeprune import __version__, store
from edgeprune.errors import EdgepruneError, ExportError, MeasurementError, TicketError
from edgeprune.progress import ProgressDisplay, say, show_seconds, warn

if TYPE_CHECKING:
    from edgeprune.artifact import Artifact
    from edgeprune.bench import Request
    from edgeprune.connections import Connection
    from edgeprune.find import Event, Problem
    from edgeprune.measurement import Measurement
    from edgeprune.report import Noun
    from edgeprune.target import Target

OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=store.DEFAULT_OUT, show_default=True,
    help="Folder for tickets, artifacts, measurements and reports.",
)  # fmt: skip
DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with the task's data files; else $EDGEPRUNE_DATA, else a download.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
HOST = click.option(
    "--host", "hosts", multiple=True, help="The device: USER@HOST as ssh knows it, or adb's serial; may be repeated."
)
PYTHON = click.option("--python", default="", help="Interpreter on the device; else ~/.edgeprune/venv's, else python3.")
LAYERS_SHOWN = 20


class _Numbers(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on; Python 3.9 has 8.1
    """Numbers divided by commas, such as 0.2,0.2,0.05."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind
        self.name = "N[,N...]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            words = "whole numbers" if self.kind is int else "numbers"
            self.fail(f"{value!r} is not a list of {words} divided by commas", param, ctx)


class _Duration(click.ParamType):  # type: ignore[type-arg]
    """A time such as 90s, 10m or 1h, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        seconds = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(value[-1:])
        try:
            return float(value[:-1]) * seconds if seconds else self.fail(f"{value!r} has no unit", param, ctx)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 90s, 10m or 1h", param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeprune")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def cli(debug: bool) -> None:
    """Take lottery tickets from PyTorch onto edge devices: smaller and faster, measured.

    \b
    edgeprune find digits                 find a ticket
    edgeprune export --target rpi4        build verified bundles from the newest ticket
    edgeprune bench --target local        measure the newest bundle against its dense twin
    edgeprune report                      write one HTML page about it all
    """


@cli.command()
@click.argument("task")
@click.option("--target", help="Device to find for: sets the default pattern.")
@click.option("--pattern", help="unstructured, block:4x1, block:1x4, channel or n:m such as 2:4.")
@click.option("--levels", type=int, metavar="N", help="Number of prunings after the dense level.")
@click.option("--rate", "rates", type=_Numbers(float), default=(), help="Share of the weights pruned at each level.")
@click.option("--density", type=float, metavar="D", help="Nonzero / all prunable weights to end at.")
@click.option("--rewind", metavar="init|N-steps|N-epochs", help="Point of the training that each level goes back to.")
@click.option("--seeds", type=_Numbers(int), default="1,2,3", show_default=True, help="One run for each.")
@click.option("--margin", type=float, default=0.5, show_default=True, metavar="PP", help="Points a ticket may lose.")
@click.option("--threads", type=click.IntRange(1), help="PyTorch threads; by default 1 for an MLP, else all cores.")
@DATA_DIR
@OUT
@JSON
def find(task: str, target: Optional[str], out: Path, data_dir: Optional[Path], as_json: bool, **chosen: Any) -> None:
    """Find a ticket of TASK: a built-in name (see `edgeprune tasks`), file.py:function or module:function.

    \b
    edgeprune find digits
    edgeprune find mnist --levels 10 --seeds 1,2,3 --data-dir data
    edgeprune find mytask.py:make --target rpi4 --density 0.1
    """
    # Threads that wait by spinning make a level ten times slower as soon as another process wants their core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from edgeprune import tasks
    from edgeprune.find import Options, RunFinished, doubts, find_levels, prepare
    from edgeprune.report import density_plot, summary

    pattern = _pattern(chosen.pop("pattern"), target)
    options = Options(pattern=pattern, **{**chosen, "margin": chosen["margin"] / 100})
    problem = prepare(tasks.load(task), options, data_dir)
    for doubt in doubts(problem):
        warn(doubt)
    ticket = None
    with ProgressDisplay(len(problem.spec.seeds) * (problem.spec.levels + 2)) as display:
        for event in find_levels(problem, out):
            _show(event, display, problem)
            ticket = event.ticket if isinstance(event, RunFinished) else None
    if ticket is None:
        raise TicketError("the run ended without a ticket")
    density_plot(ticket, ticket.path / "density.png")
    say(ticket.verdict.statement)
    _print_path(ticket.path, summary(ticket), as_json)


def _pattern(pattern: Optional[str], target: Optional[str]) -> str:
    """The pattern asked for, else the first that pays off on the target, else unstructured."""
    from edgeprune.target import load_target

    paying = load_target(target).first_paying_pattern() if target else None
    if pattern is None and paying is not None:
        say(f"pattern {paying.pattern}: {paying.why} (target {target})")
        return paying.pattern
    return pattern or "unstructured"


def _show(event: Event, display: ProgressDisplay, problem: Problem) -> None:
    """One event of find on the display; a level or a control is one unit of work."""
    from edgeprune import find

    spec, metric = problem.spec, problem.loaded.task.metric_name
    if isinstance(event, find.RunFinished):
        if event.resumed:
            say("this ticket is complete already: nothing to do")
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


@cli.command()
@click.argument("ticket", required=False, type=click.Path(path_type=Path))
@click.option("--target", required=True, help="Name (see `edgeprune targets`) or a TOML file of your own.")
@click.option("--runtime", help="Only this runtime of the target.")
@click.option("--precision", help="Only this precision: fp32 or int8.")
@click.option("--seed", type=int, help="Seed to export instead of the one with the median validation metric.")
@click.option("--max-drop", type=float, default=1.0, show_default=True, metavar="PP", help="Points int8 may lose.")
@click.option("--portable", is_flag=True, help="Also write NAME-portable: stock operators, no library.")
@DATA_DIR
@OUT
@JSON
def export(
    ticket: Optional[Path], target: str, max_drop: float, data_dir: Optional[Path], out: Path, as_json: bool,
    **narrowed: Any,
) -> None:  # fmt: skip
    """Build a bundle of TICKET (else the newest) for each runtime and precision of a target, and verify each.

    \b
    edgeprune export --target rpi4
    edgeprune export edgeprune-out/tickets/digits-0123456789ab --target rpi4 --runtime litert --precision int8
    """
    from edgeprune.export import ExportOptions
    from edgeprune.export import export as run
    from edgeprune.report import summary
    from edgeprune.target import load_target
    from edgeprune.ticket import Ticket

    machine = load_target(target)
    found = Ticket.load(ticket or _newest(out, "ticket", TicketError))
    options = ExportOptions(max_drop=max_drop / 100, **narrowed)
    summaries = []
    for artifact in run(found, machine, options, data_dir, out):
        say(
            f"{artifact.runtime} {artifact.precision} {artifact.variant}: {artifact.metric_name} "
            f"{artifact.metric_runtime:.4f} (PyTorch {artifact.metric_torch:.4f}), largest difference "
            f"{artifact.parity_max_abs:.2g}, {artifact.size_bytes:,} bytes, zeros lost {artifact.zeros_lost}, "
            f"weights removed {artifact.weights_removed} of {artifact.weights_total}"
        )
        _say_layers(artifact)
        if artifact.variant == "ticket":
            summaries.append({"path": str(artifact.path), **summary(artifact)})
            if not as_json:
                click.echo(artifact.path)
    if as_json:
        click.echo(json.dumps(summaries, indent=1))


def _say_layers(artifact: Artifact) -> None:
    """What runs each layer and why: a line a layer, or one for all if there are many."""
    layers = artifact.layers
    if len(layers) > LAYERS_SHOWN:
        sparse = [layer for layer in layers if layer.kernel == "sparse"]
        gains = sorted(layer.predicted_gain for layer in sparse)
        predicted = f", predicted {gains[0]:.1f}x to {gains[-1]:.1f}x" if gains else f" ({layers[0].why})"
        say(f"  {len(sparse)} of {len(layers)} layers run sparse{predicted}; edgeprune inspect lists them")
        return
    for layer in layers:
        shape = "x".join(map(str, layer.shape))
        say(f"  {layer.name} {layer.op} {shape}, density {100 * layer.density:.1f} %: {layer.why}")


@cli.command()
@click.argument("artifacts", nargs=-1, type=click.Path(path_type=Path))
@click.option("--target", default="local", show_default=True, help="Name or TOML file: threads, sensors, connection.")
@HOST
@PYTHON
@click.option("--against", type=click.Path(path_type=Path), help="Compare with this bundle, not the dense twin.")
@click.option("--pairs", type=click.IntRange(1), default=32, show_default=True, help="Blocks of each side.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order of the blocks.")
@click.option(
    "--runner", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a phone without Python: LiteRT's benchmark_model, built for it; aggregates only.",
)  # fmt: skip
@click.option("--emulate", is_flag=True, help="Count instructions on the target's processor in QEMU; no device.")
@click.option(
    "--sustained", "sustained_seconds", type=_Duration(), default=0.0, metavar="10m",
    help="Go on so long with each side: what becomes of latency, frequency and temperature.",
)  # fmt: skip
@click.option("--allow-governor", is_flag=True, help="Measure though the target asks for another governor; recorded.")
@OUT
@JSON
def bench(
    artifacts: tuple[Path, ...], target: str, hosts: tuple[str, ...], python: str, against: Optional[Path],
    runner: Optional[Path], emulate: bool, out: Path, as_json: bool, **planned: Any,
) -> None:  # fmt: skip
    """Measure ARTIFACTS (else the newest), each against its dense twin, in alternating blocks of fresh processes.

    \b
    edgeprune bench --target local
    edgeprune bench --target rpi4 --host pi@raspberrypi --host pi@kitchen
    edgeprune bench --target rpi4 --emulate
    edgeprune bench --target android-arm64 --runner benchmark_model
    edgeprune bench --target local --sustained 10m
    edgeprune bench edgeprune-out/artifacts/digits-0123456789ab-seed1-rpi4-litert-int8 --target local
    """
    from edgeprune.artifact import Artifact
    from edgeprune.bench import Plan, Request
    from edgeprune.report import summary

    if emulate and hosts:
        raise click.UsageError("--emulate counts on this machine, it takes no --host")
    if runner and (emulate or python or planned["sustained_seconds"]):
        raise click.UsageError("--runner goes with none of --emulate, --python and --sustained")
    plan = Plan(**planned)
    machine, devices = _devices(target, hosts, python)
    bundles = [Artifact.load(path) for path in artifacts] or [Artifact.load(_newest(out, "artifact", ExportError))]
    others = [Artifact.load(other) if other else None for other in (against or each.twin_path() for each in bundles)]
    summaries = []
    for artifact, other in zip(bundles, others):
        request = Request(artifact, other, machine, plan, out, runner)
        for measurement in _count(request) if emulate else _measure(request, devices):
            summaries.append({"path": str(measurement.path), **summary(measurement)})
            if not as_json:
                click.echo(measurement.path)
    if as_json:
        click.echo(json.dumps(summaries, indent=1))


def _measure(request: Request, devices: Mapping[str, Callable[[], Connection]]) -> Iterator[Measurement]:
    """Measure on all devices with a bar over their blocks, say the results; raises what the last one to fail raised."""
    from rich.console import Console

    from edgeprune.bench import BlockDone
    from edgeprune.bench.devices import bench_devices
    from edgeprune.report import print_devices

    name, done, failed = request.artifact.path.name, dict.fromkeys(devices, 0.0), None
    measured: dict[str, Measurement] = {}
    with ProgressDisplay(len(devices)) as display, closing(bench_devices(request, devices)) as events:
        for host, event in ((each.host, each.event) for each in events):
            if isinstance(event, BlockDone):
                done[host] = event.number / event.total
                display.update(sum(done.values()), f"{name} on {host}: block {event.number}/{event.total}")
            elif isinstance(event, EdgepruneError):
                failed = event
                if len(devices) > 1:
                    display.line(f"{host}: {event}")
            else:
                measured[host] = event
                _say_measurement(request.artifact, event, host if len(devices) > 1 else "")
                yield event
    if len(devices) > 1:
        print_devices(measured, Console(stderr=True))
    if failed is not None:
        raise failed


def _count(request: Request) -> Iterator[Measurement]:
    """Count the instructions on the target's emulated processor, say the result."""
    from edgeprune.bench.emulation import emulate

    measurement = emulate(request.artifact, request.against, request.target, request.out)
    _say_measurement(request.artifact, measurement, "")
    yield measurement


def _say_measurement(artifact: Artifact, measurement: Measurement, host: str) -> None:
    from rich.console import Console

    from edgeprune.bench import conditions
    from edgeprune.report import dense_warnings, print_layers, speed_line

    say(f"{host + ': ' if host else ''}{artifact.path.name}: {speed_line(measurement)}")
    print_layers(measurement, Console(stderr=True))
    for line in (*conditions.warnings(measurement), *dense_warnings(artifact)):
        warn(line)


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@OUT
@JSON
def report(paths: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Write one self-contained HTML page about PATHS: tickets, artifacts, measurements.

    Without PATHS: about the newest ticket, its artifacts and their measurements. The text goes to stderr.

    \b
    edgeprune report
    """
    from rich.console import Console

    from edgeprune.report import collect, print_report, summary, write_report

    nouns = collect(paths, out)
    print_report(nouns, Console(stderr=True))
    path = write_report(nouns, out)
    if as_json:
        every: list[Noun] = [*nouns.tickets, *nouns.artifacts, *nouns.measurements]
        click.echo(json.dumps({"path": str(path), "nouns": [summary(noun) for noun in every]}, indent=1))
    else:
        click.echo(path)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@JSON
def inspect(path: Path, as_json: bool) -> None:
    """Show a ticket, an artifact or a measurement.

    \b
    edgeprune inspect edgeprune-out/tickets/digits-0123456789ab --json
    """
    from rich.console import Console

    from edgeprune.report import print_noun, read, summary

    noun = read(path)
    if as_json:
        click.echo(json.dumps({"path": str(noun.path), **summary(noun)}, indent=1))
    else:
        print_noun(noun, Console())


@cli.command()
@JSON
def tasks(as_json: bool) -> None:
    """List the built-in tasks.

    \b
    edgeprune tasks
    """
    from edgeprune import tasks as builtin

    rows = [{"name": name, "description": builtin.load(name).task.description} for name in builtin.names()]
    _print_rows(rows, as_json)


@cli.command()
@JSON
def targets(as_json: bool) -> None:
    """List the built-in targets.

    \b
    edgeprune targets
    """
    from edgeprune.target import load_target, target_names

    rows = []
    for name in target_names():
        target = load_target(name)
        cells = ", ".join(f"{runtime} {precision}" for runtime, precision in target.cells())
        rows.append({"name": name, "description": target.description, "cells": cells})
    _print_rows(rows, as_json)


@cli.command()
@click.option("--target", help="Look at a device of this kind instead of this machine.")
@HOST
@PYTHON
@OUT
@JSON
def doctor(target: Optional[str], hosts: tuple[str, ...], python: str, out: Path, as_json: bool) -> None:
    """Check that this machine has what find, export, bench and report need, or a device what bench needs there.

    \b
    edgeprune doctor
    edgeprune doctor --target rpi4 --host pi@raspberrypi
    """
    from dataclasses import asdict

    from edgeprune.doctor import checks, device_checks

    if hosts and target is None:
        raise click.UsageError("--host needs --target, such as --target rpi4")
    found = []
    if target is None:
        found += [asdict(check) for check in checks(out)]
    else:
        machine, devices = _devices(target, hosts, python)
        for host, connect in devices.items():
            beside = {"device": host} if len(devices) > 1 else {}
            found += [{**beside, **asdict(check)} for check in device_checks(machine, connect)]
    _print_rows(found, as_json)
    if any(check["state"] == "missing" for check in found):
        sys.exit(1)


def _devices(target: str, hosts: tuple[str, ...], python: str) -> tuple[Target, dict[str, Callable[[], Connection]]]:
    """The target, and for each host what connects to it."""
    from edgeprune import connections
    from edgeprune.target import load_target

    machine = load_target(target)
    module = connections.load(machine.connection)
    return machine, {host or "this device": partial(module.connect, host, python) for host in hosts or ("",)}


@cli.command()
@click.argument("measurement", required=False, type=click.Path(path_type=Path))
@click.option("--budget", metavar="NAME=VALUE[,...]", help="Such as latency_p90=10ms,size=5MB; else the target's.")
@click.option("--target", help="Whose budgets and governor count, instead of the measurement's own target.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Also write a JUnit XML file.")
@OUT
@JSON
def gate(
    measurement: Optional[Path], budget: Optional[str], target: Optional[str], junit: Optional[Path], out: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Hold MEASUREMENT (else the newest) against budgets, on the bounds of its intervals.

    Exits with 0 if all are kept, 1 if one is not, 2 for bad input, 3 for a device in an unfair state, 4 if an interval
    straddles its budget.

    
    edgeprune gate --budget latency_p90=10ms,size=5MB,accuracy_drop=0.5pp
    """
    from dataclasses import asdict

    from edgeprune import gate as rules
    from edgeprune.measurement import Measurement
    from edgeprune.target import load_target

    measured = Measurement.load(measurement or _newest(out, "measurement", MeasurementError))
    machine = load_target(target or measured.target)
    judged = rules.judge(measured, rules.parse_budgets(rules.split_budgets(budget) if budget else machine.budgets))
    unfair = rules.unfairness(measured, machine)
    code = rules.UNFAIR if unfair else rules.exit_code(judged)
    for line in (*(each.why for each in judged), *([f"unfair: {unfair}"] if unfair else [])):
        say(line)
    if junit is not None:
        store.write_bytes(junit, rules.junit(measured, judged, unfair))
    if as_json:
        found = {"path": str(measured.path), "exit_code": code, "unfair": unfair}
        click.echo(json.dumps({**found, "budgets": [asdict(each) for each in judged]}, indent=1))
    elif junit is not None:
        click.echo(junit)
    sys.exit(code)


def _newest(out: Path, kind: str, error: type[EdgepruneError]) -> Path:
    path = store.newest(out, kind, error)
    say(f"newest {kind}: {path}")
    return path


def _print_path(path: Path, summary: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps({"path": str(path), **summary}, indent=1) if as_json else path)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def main() -> None:
    """Entry point: run the command and translate what it raises into one line and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except (EdgepruneError, click.ClickException, click.Abort, KeyboardInterrupt, OSError) as problem:
        code = _explain(problem)
        if code is None:
            raise
        if "--debug" in sys.argv[1:]:
            traceback.print_exc()
    sys.exit(code)


def _explain(problem: BaseException) -> Optional[int]:
    """Print one line about a problem and give the exit code; None for an error that is no fault of the input."""
    if isinstance(problem, click.ClickException):
        problem.show()
        return problem.exit_code
    if isinstance(problem, EdgepruneError):
        say(f"error: {problem}")
        return problem.exit_code
    if isinstance(problem, OSError):
        line = _disk_line(problem)
        if line:
            say(f"error: {line}")
        return 2 if line else None
    say("interrupted; what is finished is kept, and the same command goes on from there")
    return 130


def _disk_line(problem: OSError) -> str:
    """The line for a full disk or a forbidden file, "" for errors that are no fault of the disk."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"cannot write {problem.filename or 'a file'}: {problem.strerror}; free some space and run it again"
    if problem.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR):
        return f"cannot use {problem.filename}: {problem.strerror}; choose another folder with --out"
    return ""
