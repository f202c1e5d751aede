"""`bench`, `doctor` and `gate`: what runs on a device, or judges what ran there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from edgeprune import store
from edgeprune.cli.fields import filled
from edgeprune.cli.parts import EXIT_CODES, HOST, JSON, OUT, PYTHON, newest, print_rows
from edgeprune.errors import EdgepruneError, ExitCode, ExportError, MeasurementError
from edgeprune.options import HERE
from edgeprune.plan import Plan
from edgeprune.progress import ProgressDisplay, say, warn

if TYPE_CHECKING:
    from edgeprune.artifact import Artifact
    from edgeprune.bench import Request
    from edgeprune.connections import Connection
    from edgeprune.measurement import Measurement
    from edgeprune.target import Target


@click.command()
@click.argument("artifacts", nargs=-1, type=click.Path(path_type=Path))
@click.option("--target", default=HERE, show_default=True, help="Name or TOML file: threads, sensors, connection.")
@HOST
@PYTHON
@click.option("--against", type=click.Path(path_type=Path), help="Compare with this bundle, not the dense twin.")
@click.option(
    "--runner", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For a phone without Python: LiteRT's benchmark_model, built for it; aggregates only.",
)  # fmt: skip
@click.option("--emulate", is_flag=True, help="Count instructions on the target's processor in QEMU; no device.")
@filled(Plan, "plan")
@OUT
@JSON
def bench(
    artifacts: tuple[Path, ...], target: str, hosts: tuple[str, ...], python: str, against: Optional[Path],
    runner: Optional[Path], emulate: bool, plan: Plan, out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Measure ARTIFACTS (else the newest), each against its dense twin, in alternating blocks of fresh processes.

    \b
    edgeprune bench --target local
    edgeprune bench --target rpi4 --host pi@raspberrypi --host pi@kitchen
    edgeprune bench --target rpi4 --emulate
    edgeprune bench --target android-arm64 --runner benchmark_model
    edgeprune bench --target local --spread 10m
    edgeprune bench --target local --sustained 10m
    edgeprune bench edgeprune-out/artifacts/digits-0123456789ab-seed1-rpi4-litert-int8 --target local --pairs 12
    """
    from edgeprune.artifact import Artifact
    from edgeprune.bench import Request
    from edgeprune.report import summary

    if emulate and hosts:
        raise click.UsageError("--emulate counts on this machine, it takes no --host")
    if emulate and (plan.spread_seconds or plan.sustained_seconds):
        raise click.UsageError("--emulate counts instructions: it takes none of --spread and --sustained")
    if runner and (emulate or python or plan.sustained_seconds):
        raise click.UsageError("--runner goes with none of --emulate, --python and --sustained")
    machine, devices = _devices(target, hosts, python)
    bundles = [Artifact.load(path) for path in artifacts] or [Artifact.load(newest(out, "artifact", ExportError))]
    named = Artifact.load(against) if against else None
    others = [named or _twin(bundle) for bundle in bundles]
    summaries = []
    for artifact, other in zip(bundles, others):
        request = Request(artifact, other, machine, plan, out, runner)
        for measurement in _count(request) if emulate else _measure(request, devices):
            summaries.append({"path": str(measurement.path), **summary(measurement, list(request.sides.values()))})
            if not as_json:
                click.echo(measurement.path)
    if as_json:
        click.echo(json.dumps(summaries, indent=1))


def _twin(artifact: Artifact) -> Optional[Artifact]:
    """The dense twin of a bundle; None for a dense one. ExportError if the bundle was moved without it."""
    from edgeprune.artifact import Artifact

    path = artifact.twin_path()
    if path is not None and not path.exists():
        raise ExportError(
            f"{artifact.origin} has no dense twin beside it: there is no {path}",
            "copy that there, too, or name another bundle to compare with: --against",
        )
    return Artifact.load(path) if path is not None else None


def _measure(request: Request, devices: Mapping[str, Callable[[], Connection]]) -> Iterator[Measurement]:
    """Measure on all devices with a bar over their blocks, say the results; raises what the last one to fail raised."""
    from rich.console import Console

    from edgeprune.bench import BlockDone
    from edgeprune.bench.devices import bench_devices
    from edgeprune.report import print_devices

    name, done = request.artifact.path.name, dict.fromkeys(devices, 0.0)
    failed: Optional[Exception] = None
    measured: dict[str, Measurement] = {}
    with ProgressDisplay(len(devices)) as display, closing(bench_devices(request, devices)) as events:
        for host, event in ((device_event.host, device_event.event) for device_event in events):
            if isinstance(event, BlockDone):
                done[host] = event.number / event.total
                display.update(sum(done.values()), f"{name} on {host}: block {event.number}/{event.total}")
            elif isinstance(event, (EdgepruneError, OSError)):
                failed = event
                if len(devices) > 1:
                    display.line(f"{host}: {event}")
            else:
                measured[host] = event
                _say_measurement(request, event, host if len(devices) > 1 else "")
                yield event
    if len(devices) > 1:
        print_devices(measured, list(request.sides.values()), Console(stderr=True))
    if failed is not None:
        raise failed


def _count(request: Request) -> Iterator[Measurement]:
    """Count the instructions on the target's emulated processor, say the result."""
    from edgeprune.bench.emulation import emulate

    measurement = emulate(request.artifact, request.against, request.target, request.out)
    _say_measurement(request, measurement, "")
    yield measurement


def _say_measurement(request: Request, measurement: Measurement, host: str) -> None:
    from rich.console import Console

    from edgeprune.bench import conditions
    from edgeprune.report import dense_warnings, print_layers, result_line

    artifact, sides = request.artifact, list(request.sides.values())
    say(f"{host + ': ' if host else ''}{artifact.path.name}: {result_line(measurement, sides)}")
    print_layers(measurement, sides, Console(stderr=True))
    for line in (*conditions.warnings(measurement), *dense_warnings(artifact)):
        warn(line)


@click.command(epilog=EXIT_CODES)
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
    print_rows(found, as_json)
    states = {check["state"] for check in found}
    sys.exit(ExitCode.FAILED if "missing" in states else ExitCode.UNFAIR if "unfair" in states else ExitCode.DONE)


def _devices(target: str, hosts: tuple[str, ...], python: str) -> tuple[Target, dict[str, Callable[[], Connection]]]:
    """The target, and for each host what connects to it."""
    from edgeprune import connections
    from edgeprune.target import load_target

    machine = load_target(target)
    module = connections.load(machine.connection)
    return machine, {host or "this device": partial(module.connect, host, python) for host in hosts or ("",)}


@click.command(epilog=EXIT_CODES)
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

    \b
    edgeprune gate --budget latency_p90=10ms,size=5MB,accuracy_drop=0.5pp,verdict=winning
    edgeprune gate edgeprune-out/measurements/digits.json --target rpi4 --junit gate.xml
    """
    from dataclasses import asdict

    from edgeprune import gate as rules
    from edgeprune.measurement import Measurement
    from edgeprune.target import load_target

    measured = Measurement.load(measurement or newest(out, "measurement", MeasurementError))
    machine = load_target(target or measured.asked.get("target", measured.target))
    budgets = rules.parse_budgets(rules.split_budgets(budget) if budget else machine.budgets)
    judged = rules.judge(measured, budgets, out)
    unfair = rules.unfairness(measured, machine)
    code = ExitCode.UNFAIR if unfair else rules.exit_code(judged)
    for line in (*(judgement.why for judgement in judged), *([f"unfair: {unfair}"] if unfair else [])):
        say(line)
    if junit is not None:
        try:
            store.write_bytes(junit, rules.junit(measured, judged, unfair))
        except OSError as problem:
            raise MeasurementError(f"cannot write {junit}: {problem.strerror}", "name another file: --junit") from None
    if as_json:
        found = {"path": str(measured.path), "exit_code": code, "unfair": unfair}
        click.echo(json.dumps({**found, "budgets": [asdict(judgement) for judgement in judged]}, indent=1))
    elif junit is not None:
        click.echo(junit)
    sys.exit(code)
