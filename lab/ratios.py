"""How many times faster sparse bundles are than dense ones, in one process."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import edgeprune
from edgeprune import Artifact, LoadedModel, runtimes
from edgeprune.artifact import to_torch_layout
from edgeprune.mask import Array
from edgeprune.progress import say
from lab import forms
from lab.bundles import bundle, twin_of
from lab.sheet import Sheet, judged, one_by_one, shown
from lab.tickets import MORE, NETWORKS, Cell
from lab.timing import Compared, alternate, local

# Pattern and precision of the sparse side, precision of the dense one -> the ratio to reach at 90 % zeros on a thread,
# by network in the order of NETWORKS; a drawn network has ResNet-18's.
SIDES = {
    ("unstructured", "fp32", "fp32"): (3.3, 3.0, 2.2, 2.5),
    ("block:4x1", "fp32", "fp32"): (4.2, 4.0, 2.6, 4.0),
    ("block:1x4", "int8", "fp32"): (10.0, 10.0, 5.0, 10.0),
    ("block:1x4", "int8", "int8"): (2.6, 2.2, 2.0, 1.5),
}
# The same for those of MORE that have a bar, by network.
BARS = {
    ("block:4x1", "fp32", "fp32"): {
        "mobilenetv2": 4.5, "resnet50": 6.5, "vit-tiny": 3.0, "bert-tiny": 3.0, "convnext-atto": 2.5,
        "lstm": 4.0, "gru": 4.0,
    },
    ("block:1x4", "int8", "int8"): {
        "mobilenetv2": 3.2, "resnet50": 3.8, "vit-tiny": 2.0, "bert-tiny": 2.0, "mobilenetv3small": 1.8,
        "efficientnet": 2.0, "yolo": 2.5,
    },
}  # fmt: skip
ROWS = {f"{precision} {pattern} vs dense {dense}": (pattern, precision, dense) for pattern, precision, dense in SIDES}
BAR_SPARSITY = 90.0
CURVE = (70.0, 80.0, 90.0, 95.0, 98.0)
THREADS_BAR = {("resnet18", "fp32"): 1.6, ("mobilenetv1", "fp32"): 1.6}
# What small networks are drawn from, and the ratio below which a bundle is slower than its twin by more than noise.
PATTERNS, PRECISIONS, ZEROS = ("unstructured", "block:1x4", "block:4x1"), ("fp32", "int8"), (30, 50, 70, 80, 90, 95)
CHOICE_BAR = 0.97
TIMES = ("dense ms", "sparse ms", "ratio", "95 % interval", "bar")


@dataclass(frozen=True)
class Asked:
    """What is compared: rows of ROWS on networks, with so many blocks a side. work: folder of what is exported."""

    work: Path
    networks: Sequence[str]
    rows: Sequence[str]
    rounds: int

    @property
    def kinds(self) -> dict[str, tuple[str, str]]:
        """Name -> pattern and precision of the sparse sides, each once."""
        sides = (ROWS[row][:2] for row in self.rows)
        return {f"{precision} {pattern}": (pattern, precision) for pattern, precision in sides}


def example_of(model: LoadedModel, batch: int = 1) -> Array:
    """The first of the bundle's probes, so many times over, as an application would hand it over."""
    (port,), (probes,) = model.artifact.inputs, model.artifact.probe_inputs()
    one = np.ascontiguousarray(to_torch_layout(probes[:1], port))
    return one.repeat(batch, 0)


def time_row(asked: Asked, network: str, row: str, sparsity: float, batch: int = 1) -> tuple[Compared, str]:
    """The blocks of a row, whose sparse side is "sparse", and the name of the dense side that was fastest."""
    pattern, precision, against = ROWS[row]
    sparse = bundle(asked.work, Cell(network, pattern, sparsity, precision))
    # The dense networks are the same whatever the pattern, so the fp32 one may come from another export.
    same = against == precision
    twin = twin_of(sparse if same else bundle(asked.work, Cell(network, "block:4x1", sparsity, "fp32")))
    models = {"sparse": edgeprune.load(sparse.path), "dense": edgeprune.load(twin.path)}
    if against == "int8":
        session = runtimes.load("onnxruntime").open_session(forms.file_of(twin, forms.signed), 1)
        models["dense, signed"] = LoadedModel(twin, session)
    example = example_of(models["sparse"], batch)
    timed = alternate({name: local(model, example) for name, model in models.items()}, asked.rounds)
    return timed, timed.fastest(*(name for name in models if name != "sparse"))


def compare(asked: Asked, sparsity: float, batch: int) -> Sheet:
    """The ratio of every row, with times and, for single examples at 90 % zeros, bars."""
    sheet = Sheet("row", *TIMES, title=f"{sparsity:g} % zeros, batch {batch}")
    judge = sparsity == BAR_SPARSITY and batch == 1
    for network, row in one_by_one(asked.networks, asked.rows):
        timed, dense = time_row(asked, network, row, sparsity, batch)
        ratio = timed.ratio(dense, "sparse")
        times = (f"{timed.median_ms(side):.3f}" for side in (dense, "sparse"))
        bar = bar_of(network, ROWS[row]) if judge else None
        sheet.add(network, {row: round(ratio.value, 3)}, row, *times, *shown(ratio), judged(ratio.value, bar))
    return sheet


def bar_of(network: str, side: tuple[str, str, str]) -> float | None:
    """The ratio that a network is to reach in a row, None for one without."""
    if network in MORE:
        return BARS.get(side, {}).get(network)
    return SIDES[side][NETWORKS.index(network) if network in NETWORKS else 0]


def draw_curve(asked: Asked) -> Sheet:
    """Ratios from 70 to 98 % zeros, and the share of zeros where the sparse side is as fast as the dense one."""
    sheet = Sheet("row", *(f"{sparsity:g} %" for sparsity in CURVE), "crossover")
    for network, row in product(asked.networks, asked.rows):
        ratios = []
        for sparsity in CURVE:
            say(f"{network}: {row} at {sparsity:g} %")
            timed, dense = time_row(asked, network, row, sparsity)
            ratios.append(timed.ratio(dense, "sparse").value)
        cross = crossover(CURVE, [1 / ratio for ratio in ratios])
        figures: dict[str, Any] = {f"{sparsity:g}": round(ratio, 3) for sparsity, ratio in zip(CURVE, ratios)}
        cells = (*(f"{ratio:.2f}x" for ratio in ratios), "none" if cross is None else f"{cross:.0f} %")
        sheet.add(network, {row: {**figures, "crossover": cross}}, row, *cells)
    return sheet


def crossover(sparsities: Sequence[float], shares: Sequence[float]) -> float | None:
    """The percentage of zeros at which sparse takes as long as dense; None where it always takes less.

    shares: sparse / dense time at each percentage. Between two measured ones the line that joins them; beyond, the
    line through the nearest two, since a kernel's time grows with its number of nonzeros.
    """
    pairs = list(zip(sparsities, shares))
    spans = list(zip(pairs, pairs[1:]))
    inside = [span for span in spans if (span[0][1] - 1) * (span[1][1] - 1) <= 0]
    (x0, y0), (x1, y1) = inside[-1] if inside else spans[0] if shares[0] < 1 else spans[-1]
    if y0 == y1:
        return None
    at = x0 + (1 - y0) * (x1 - x0) / (y1 - y0)
    return round(at, 1) if 0 <= at <= 100 else None


def check_choices(asked: Asked, seed: int) -> Sheet:
    """The networks `small-SEED` and on, each with a pattern, a precision and a share of zeros that are drawn: whatever
    export chose for their layers, no bundle may be slower than its dense twin."""
    sheet = Sheet("bundle", "zeros", "sparse layers", *TIMES)
    for number, network in enumerate(asked.networks, seed):
        draw = random.Random(number)
        pattern, precision, sparsity = draw.choice(PATTERNS), draw.choice(PRECISIONS), draw.choice(ZEROS)
        kind = f"{precision} {pattern}"
        say(f"{network}: {kind} at {sparsity:g} %")
        sparse = bundle(asked.work, Cell(network, pattern, sparsity, precision))
        models = {"sparse": edgeprune.load(sparse.path), "dense": edgeprune.load(twin_of(sparse).path)}
        example = example_of(models["sparse"])
        timed = alternate({side: local(model, example) for side, model in models.items()}, asked.rounds)
        ratio = timed.ratio("dense", "sparse")
        layers = sum(layer.kernel != "dense" for layer in sparse.layers)
        times = (f"{timed.median_ms(side):.4f}" for side in ("dense", "sparse"))
        cells = (kind, f"{sparsity:g} %", f"{layers} of {len(sparse.layers)}", *times, *shown(ratio))
        sheet.add(network, {kind: round(ratio.value, 3)}, *cells, judged(ratio.value, CHOICE_BAR))
    slower = sum(ratio < CHOICE_BAR for row in sheet.results.values() for ratio in row.values())
    sheet.table.title = (
        f"{slower} of {len(asked.networks)} bundles are slower than their dense twins by more than noise"
    )
    return sheet


def compare_threads(asked: Asked, threads: int) -> Sheet:
    """How many times faster the sparse side of each row is on several threads than on one; the same of the dense side,
    whose long layers show what several cores of the machine gain at all."""
    one, several = "1", str(threads)
    sheet = Sheet("sparse model", "1 thread ms", f"{threads} threads ms", *TIMES[2:], "dense")
    for network, name in one_by_one(asked.networks, asked.kinds, f" on {threads} threads"):
        pattern, precision = asked.kinds[name]
        sparse = bundle(asked.work, Cell(network, pattern, BAR_SPARSITY, precision))
        timed = time_threads(sparse, threads, asked.rounds)
        ratio = timed.ratio(one, several)
        times = (f"{timed.median_ms(count):.3f}" for count in (one, several))
        bar = THREADS_BAR.get((network, precision)) if threads == 2 else None
        dense = time_threads(twin_of(sparse), threads, asked.rounds).ratio(one, several)
        figures = {f"{name}, {threads} threads vs 1": round(ratio.value, 3)}
        sheet.add(network, figures, name, *times, *shown(ratio), judged(ratio.value, bar), f"{dense.value:.2f}x")
    return sheet


def time_threads(artifact: Artifact, threads: int, rounds: int) -> Compared:
    """A bundle's blocks on one thread and on several. No other session is open, whose threads would wait busily."""
    models = {count: edgeprune.load(artifact.path, threads=count) for count in (1, threads)}
    example = example_of(models[1])
    return alternate({str(count): local(model, example) for count, model in models.items()}, rounds)
