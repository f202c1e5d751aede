"""`lab noise`: comparisons drawn from recorded blocks of one model."""

from __future__ import annotations

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
from edgeprune.errors import MeasurementError
from edgeprune.measurement import Timed
from edgeprune.progress import say
from edgeprune.target import load_target
from lab import programs

TASK = ("digits", "--seeds", "1", "--levels", "2", "--threads", "1")
PAIRS = (12, 16, 24, 32, 40)
COMPARISONS = 1000
FEWEST = 200


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
    kept = sorted(work.glob("artifacts/*-dense/manifest.json"))
    if kept:
        return Artifact.load(kept[0].parent)
    ticket = programs.edgeprune("find", *TASK, "--out", work)
    how = ("--target", "local", "--runtime", "onnxruntime", "--precision", "fp32")
    bundle = programs.edgeprune("export", ticket, *how, "--out", work)
    return Artifact.load(Path(f"{bundle}-dense"))


def record(work: Path, count: int) -> None:
    """Run so many blocks and write WORK/blocks.json: one entry a block, in the order in which they ran."""
    artifact, plan, begin = small_bundle(work), Plan(seed=1, pairs=count), time.monotonic()
    with connect() as connection:
        for event in bench_blocks(Request(artifact, None, load_target("local"), plan, work), connection):
            if isinstance(event, BlockDone):
                if event.number % 20 == 0:
                    say(f"block {event.number}/{event.total}")
            elif isinstance(event, Timed):
                seconds, blocks = time.monotonic() - begin, [entry(block) for block in event.blocks]
                content = {"plan": dict(event.plan), "environment": dict(event.environment), "blocks": blocks}
                store.write_json(work / "blocks.json", {**content, "seconds_a_block": round(seconds / len(blocks), 3)})


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
    latencies, plan = [block["lowest_percentile_ns"] for block in recorded["blocks"]], Plan(seed=1, pairs=pairs)
    same, apart, floors, effects = 0, 0, [], []
    for number, drawn in enumerate(draws(latencies, plan)):
        word, other, floor = verdicts(drawn, ratio)
        same += word in ("faster", "slower")
        apart += other == "faster"
        floors.append(floor)
        if number % 10 == 0:  # an interval each
            logs = statistics.block_logs(*([[latency] for latency in drawn[role]] for role in ("artifact", "against")))
            effects.append(statistics.minimum_detectable(*logs, floor) or np.inf)
    medians = float(np.median(effects)), float(np.median(floors))
    seconds = recorded["seconds_a_block"] * len(plan.order(compared=True))
    return Outcome(pairs, same / COMPARISONS, apart / COMPARISONS, *medians, round(seconds, 1))


def description(entries: Sequence[dict[str, Any]]) -> str:
    """How noisy the machine was while it recorded, in one line."""
    latencies = np.array([block["lowest_percentile_ns"] for block in entries])
    apart = 100 * np.abs(np.diff(np.log(latencies)))
    unsteady = sum(block["state"] == "non-stationary" for block in entries)
    slow = float(np.mean(latencies > 1.2 * latencies.min()))
    crowded = sum(block.get("cpu_pressure_us", 0) > 1e5 for block in entries)
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
    for outcome in outcomes:
        mark = " (default)" if outcome.pairs == Plan.pairs else ""
        shares = (f"{100 * outcome.different:.1f} %", f"{100 * outcome.found:.1f} %")
        effect, floor = f"{outcome.detectable:.3f}x", f"{100 * outcome.floor:.1f} %"
        shown.add_row(f"{outcome.pairs}{mark}", *shares, effect, floor, f"{outcome.seconds:.0f}")
    return shown


@click.command()
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option("--blocks", type=click.IntRange(FEWEST), default=480, show_default=True, help="To record.")
@click.option("--ratio", type=click.FloatRange(1.0), default=1.05, show_default=True, help="The true ratio to find.")
def noise(work: Path, blocks: int, ratio: float) -> None:
    """Does the method of `edgeprune bench` keep its word on this machine?

    Records real blocks of one small model in WORK, unless it has some, and draws comparisons from them: how often is a
    model called different from itself, how often is a true 5 % found? WORK keeps the bundle and blocks.json; a second
    run draws from them anew, without recording.

    \b
    lab noise /tmp/noise
    """
    kept = work / "blocks.json"
    if not kept.is_file():
        record(work, blocks)
    recorded = store.read_json(kept, "recording", MeasurementError)
    say(description(recorded["blocks"]))
    outcomes = [study(recorded, pairs, ratio) for pairs in sorted({*PAIRS, Plan.pairs})]
    store.write_json(work / "outcomes.json", {"ratio": ratio, "outcomes": [asdict(outcome) for outcome in outcomes]})
    Console().print(table(outcomes, ratio))
