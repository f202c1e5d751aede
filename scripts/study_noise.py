"""Comparisons drawn from recorded blocks of one model, for scripts/study_noise."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from edgeprune import statistics, store
from edgeprune.artifact import Artifact
from edgeprune.bench import BlockDone, Plan, Request, bench_blocks
from edgeprune.blocks import Block
from edgeprune.connections.local import connect
from edgeprune.errors import EdgepruneError, MeasurementError
from edgeprune.measurement import Measurement
from edgeprune.target import load_target

TASK = ("digits", "--seeds", "1", "--levels", "2", "--threads", "1")
PAIRS = (12, 16, 24, 32, 40)
COMPARISONS = 1000
FEWEST = 200
say = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Outcome:
    """Shares of the drawn comparisons of so many pairs. different: called faster or slower though it is one model;
    found: called faster where the other side is slower by the ratio; detectable: median of the minimum detectable
    effects stated; floor: median of the noise floors; seconds: a comparison lasts, floor included."""

    pairs: int
    different: float
    found: float
    detectable: float
    floor: float
    seconds: float


def small_bundle(work: Path) -> Artifact:
    """The dense twin of the digits task for ONNX Runtime: a few microseconds an inference, the hardest case for a clock
    and the most sensitive to other programs."""

    def run(*arguments: str) -> Path:
        command = [sys.executable, "-m", "edgeprune", *arguments, "--out", str(work)]
        return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())

    found = sorted(work.glob("artifacts/*-dense/manifest.json"))
    if found:
        return Artifact.load(found[0].parent)
    ticket = run("find", *TASK)
    bundle = run("export", str(ticket), "--target", "local", "--runtime", "onnxruntime", "--precision", "fp32")
    return Artifact.load(Path(f"{bundle}-dense"))


def record(work: Path, count: int) -> None:
    """Run so many blocks and write WORK/blocks.json: one entry a block, in the order in which they ran."""
    artifact, plan, begin = small_bundle(work), Plan(seed=1, pairs=count), time.monotonic()
    with connect() as connection:
        for event in bench_blocks(Request(artifact, None, load_target("local"), plan, work), connection):
            if isinstance(event, BlockDone):
                if event.number % 20 == 0:
                    say.print(f"study_noise: block {event.number}/{event.total}")
            elif isinstance(event, Measurement):
                store.write_json(work / "blocks.json", recording(event, time.monotonic() - begin))


def recording(measurement: Measurement, seconds: float) -> dict[str, Any]:
    """The content of blocks.json."""
    return {
        "plan": dict(measurement.plan),
        "environment": dict(measurement.environment),
        "seconds_a_block": round(seconds / len(measurement.blocks), 3),
        "blocks": [entry(block) for block in measurement.blocks],
    }


def entry(block: Block) -> dict[str, Any]:
    """A block in a few figures: what it is compared by, and what might explain it."""
    steady = statistics.steady_state(block.warmup_ns, block.samples_ns)
    samples = block.samples_ns[steady.begin :]
    before, after = block.conditions_before, block.conditions_after
    return {
        "lowest_percentile_ns": statistics.lowest_percentile(samples),
        "median_ns": int(np.median(samples)),
        "samples": len(block.samples_ns),
        "skipped": steady.begin,
        "state": steady.state,
        **{
            name: after[name] - before[name]
            for name in ("cpu_pressure_us", "preemptions")
            if isinstance(before.get(name), int) and isinstance(after.get(name), int)
        },
    }


def draws(latencies: Sequence[int], plan: Plan) -> Iterator[dict[str, list[int]]]:
    """Role -> latencies of one comparison, drawn from recorded blocks.

    What disturbs a block disturbs its neighbours too, and a comparison's blocks are neighbours: so a draw is a run of
    recorded blocks as they came, from a random place on, and its roles are those that the plan gives them. Blocks drawn
    one by one would be independent, which real ones are not [the moving block bootstrap: Kuensch, The Jackknife and the
    Bootstrap for General Stationary Observations, Annals of Statistics 17 (1989)].
    """
    length = len(plan.order(compared=True))
    if length > len(latencies):
        raise MeasurementError(f"{plan.pairs} pairs need {length} blocks, {len(latencies)} were recorded")
    rng = np.random.default_rng(plan.seed)
    for number in range(COMPARISONS):
        begin = int(rng.integers(len(latencies) - length + 1))
        roles = Plan(seed=number, pairs=plan.pairs, floor_pairs=plan.floor_pairs).order(compared=True)
        drawn: dict[str, list[int]] = {}
        for role, latency in zip(roles, latencies[begin : begin + length]):
            drawn.setdefault(role, []).append(latency)
        yield drawn


def verdicts(drawn: dict[str, list[int]], ratio: float) -> tuple[str, str, float]:
    """What `bench` would say, what it would say if the other side were slower by a ratio, and the noise floor."""
    sides = {role: [[latency] for latency in latencies] for role, latencies in drawn.items()}
    floor = statistics.noise_floor(sides["floor_a"], sides["floor_b"]).relative
    same = statistics.paired_ratio(sides["artifact"], sides["against"], floor=floor)
    if same.low is None or same.high is None:
        return same.verdict, same.verdict, floor
    # The estimate and its interval move with the latencies.
    ends = same.low * ratio, same.high * ratio
    return same.verdict, statistics.verdict(*ends, same.delta, same.value * ratio, floor), floor


def study(recorded: Mapping[str, Any], pairs: int, ratio: float) -> Outcome:
    """Draw the comparisons of so many pairs from the content of blocks.json and count."""
    latencies, plan = [each["lowest_percentile_ns"] for each in recorded["blocks"]], Plan(seed=1, pairs=pairs)
    same, apart, floors, effects = 0, 0, [], []
    for number, drawn in enumerate(draws(latencies, plan)):
        word, other, floor = verdicts(drawn, ratio)
        same += word in ("faster", "slower")
        apart += other == "faster"
        floors.append(floor)
        if number % 10 == 0:  # an interval each
            logs = statistics.block_logs(*([[each] for each in drawn[role]] for role in ("artifact", "against")))
            effects.append(statistics.minimum_detectable(*logs, floor) or np.inf)
    medians = float(np.median(effects)), float(np.median(floors))
    seconds = recorded["seconds_a_block"] * len(plan.order(compared=True))
    return Outcome(pairs, same / COMPARISONS, apart / COMPARISONS, *medians, round(seconds, 1))


def description(entries: Sequence[dict[str, Any]]) -> str:
    """How noisy the machine was while it recorded, in one line."""
    latencies = np.array([each["lowest_percentile_ns"] for each in entries])
    apart = 100 * np.abs(np.diff(np.log(latencies)))
    unsteady = sum(each["state"] == "non-stationary" for each in entries)
    slow = float(np.mean(latencies > 1.2 * latencies.min()))
    crowded = sum(each.get("cpu_pressure_us", 0) > 1e5 for each in entries)
    middle = np.median(latencies) / 1e3
    return (
        f"{len(entries)} blocks, lowest percentile {middle:.1f} us in the median, {100 * slow:.0f} % of them a fifth "
        f"above the fastest; neighbours differ by {float(np.median(apart)):.1f} % in the median, one in ten by more "
        f"than {float(np.quantile(apart, 0.9)):.0f} %; {unsteady} non-stationary; in {crowded} programs waited for a "
        "processor for more than 0.1 s"
    )


def table(outcomes: Sequence[Outcome], ratio: float) -> Table:
    """One row a number of pairs; the plan's default is marked."""
    head = ("pairs", "called different, same model", f"found, {ratio:g}x", "detectable", "noise floor", "seconds")
    shown = Table(*head, title=f"{COMPARISONS} comparisons drawn from recorded blocks", title_justify="left", box=None)
    for each in outcomes:
        mark = " (default)" if each.pairs == Plan.pairs else ""
        shares = (f"{100 * each.different:.1f} %", f"{100 * each.found:.1f} %")
        effect, floor = f"{each.detectable:.3f}x", f"{100 * each.floor:.1f} %"
        shown.add_row(f"{each.pairs}{mark}", *shares, effect, floor, f"{each.seconds:.0f}")
    return shown


@click.command()
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option("--blocks", type=click.IntRange(FEWEST), default=480, show_default=True, help="To record.")
@click.option("--ratio", type=click.FloatRange(1.0), default=1.05, show_default=True, help="The true ratio to find.")
def main(work: Path, blocks: int, ratio: float) -> None:
    """Record blocks in WORK, unless it has some, and draw comparisons from them."""
    kept = work / "blocks.json"
    if not kept.is_file():
        record(work, blocks)
    recorded = store.read_json(kept, "recording", MeasurementError)
    say.print(description(recorded["blocks"]))
    outcomes = [study(recorded, pairs, ratio) for pairs in sorted({*PAIRS, Plan.pairs})]
    store.write_json(work / "outcomes.json", {"ratio": ratio, "outcomes": [asdict(each) for each in outcomes]})
    Console().print(table(outcomes, ratio))


if __name__ == "__main__":
    try:
        main()
    except EdgepruneError as problem:
        say.print(f"study_noise: {problem}")
        sys.exit(problem.exit_code)
