"""Tickets, artifacts and measurements on disk with figures like those of real runs, from seeded random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune import store
from edgeprune.artifact import Artifact, Layer, Port, Zeros
from edgeprune.blocks import Block
from edgeprune.evidence import Signal
from edgeprune.measurement import Timed
from edgeprune.ticket import FindSpec, LevelRecord, SeedRecord, Ticket, Verdict, write_seed

LAYERS = {"conv1": (20, 1, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, 800), "fc2": (10, 500)}
SHRUNK = {"conv1": (12, 1, 5, 5), "conv2": (19, 12, 5, 5), "fc1": (180, 304), "fc2": (10, 180)}
LIBRARY = bytes(100_000)
SPEEDS = {("onnxruntime", "fp32"): (0.42, 1.05), ("onnxruntime", "int8"): (0.21, 0.5), ("litert", "fp32"): (0.5, 1.3)}


@dataclass(frozen=True)
class Built:
    """What `build` wrote. artifacts: the ticket's bundles and their dense twins."""

    out: Path
    ticket: Ticket
    artifacts: tuple[Artifact, ...]
    measurements: tuple[Timed, ...]

    @property
    def bundles(self) -> list[Artifact]:
        return [artifact for artifact in self.artifacts if artifact.variant == "ticket"]

    @property
    def bundles_by_name(self) -> list[Artifact]:
        return sorted(self.bundles, key=lambda artifact: artifact.path.name)


def make_spec(task: str = "mnist-cnn", seeds: tuple[int, ...] = (1, 2, 3), **changes: Any) -> FindSpec:
    fields: dict[str, Any] = {
        "task": task,
        "task_sha256": "a" * 64,
        "data_sha256": "b" * 64,
        "pattern": "channel",
        "rates": (0.2,) * 12,
        "scope": "layer",
        "rate_scale": {"fc2.*": 0.5},
        "iterations": 5000,
        "batch_size": 60,
        "evaluate_every": 500,
        "rewind_step": 0,
        "seeds": seeds,
        "margin": 0.005,
        "confidence": 0.95,
        "threads": 1,
        "torch_version": "2.13.0",
    }
    return FindSpec(**{**fields, **changes})


def make_verdict(spec: FindSpec, level: int, status: str = "winning", **changes: Any) -> Verdict:
    one = len(spec.seeds) == 1
    fields: dict[str, Any] = {
        "status": status,
        "level": level,
        "density": density_at(spec, level),
        "difference": -0.0004,
        "interval": None if one else (-0.0021, 0.0013),
        "over_reinit": 0.0112,
        "over_reinit_interval": None if one else (0.0081, 0.0143),
        "seeds": len(spec.seeds),
        "margin": spec.margin,
        "confidence": spec.confidence,
        "controls": {"dense": "run", "random reinit": "run", "shuffled mask": "not run"},
        "statement": "The ticket is not inferior to the dense model within 0.5 points at 95 % confidence over 3 seeds.",
    }
    return Verdict(**{**fields, **changes})


def density_at(spec: FindSpec, level: int) -> float:
    return float(np.prod([1 - rate for rate in spec.rates[:level]]))


def make_levels(rng: np.random.Generator, spec: FindSpec, collapse: bool) -> tuple[LevelRecord, ...]:
    levels = []
    for level in range(spec.levels + 1):
        density = density_at(spec, level)
        value = 0.9895 + 0.001 * np.sin(level / 3) - 0.00025 / density + rng.normal(0, 0.0005)
        if collapse and level > spec.levels - 2:
            value = 0.1135 + rng.normal(0, 0.001)
        densities = {name: min(1.0, density * factor) for name, factor in zip(LAYERS, (1.4, 0.9, 1.0, 2.0))}
        levels.append(LevelRecord(level, density, densities, float(value), 0.02 + 0.001 * level, 4500))
    return tuple(levels)


def make_ticket(out: Path, spec: FindSpec, status: str = "winning", collapse: bool = True, **changes: Any) -> Ticket:
    rng = np.random.default_rng(7)
    level = min(8, spec.levels)
    folder = out / "tickets" / f"ticket-{spec.id[:8]}"
    records = []
    for seed in spec.seeds:
        mask = {name: rng.random(shape) < density_at(spec, level) for name, shape in LAYERS.items()}
        dense = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LAYERS.items()}
        masked = {name: np.where(mask[name], dense[name], np.float32(0)) for name in mask}
        groups = {"mask": mask, "dense": dense, "trained": masked, "rewind": dense, "reinit": masked}
        sha256 = write_seed(folder, seed, groups)
        values = 0.9885 + rng.normal(0, 0.0005, 3) - np.array([0.0004, 0, 0.0116])
        test = dict(zip(("ticket", "dense", "reinit"), map(float, values)))
        records.append(SeedRecord(seed, make_levels(rng, spec, collapse), test, 0.979 + 0.001 * seed, sha256))
    fields: dict[str, Any] = {
        "task_name": spec.task,
        "task_file": "",
        "metric_name": "accuracy",
        "parameters": 431080,
        "verdict": make_verdict(spec, level, status),
    }
    ticket = Ticket(path=folder, spec=spec, seeds=tuple(records), **{**fields, **changes})
    ticket.save()
    return ticket


def make_layers(variant: str, runtime: str) -> tuple[Layer, ...]:
    """What runs each layer of a ticket for ONNX Runtime: fc1 sparse, fc2 sparse weights with a dense kernel."""
    if runtime != "onnxruntime" or variant != "ticket":
        return ()
    dense = "dense: 96 % of blocks left, sparse predicted 0.3x"
    few = "dense: 31 % of blocks left, sparse predicted 0.9x"
    return (
        Layer("conv1", "Conv", SHRUNK["conv1"], 0.95, "", "dense", dense, 1.0),
        Layer("conv2", "Conv", SHRUNK["conv2"], 0.94, "", "dense", dense, 1.0),
        Layer("fc1", "Gemm", SHRUNK["fc1"], 0.1, "block:1x4", "sparse", "sparse block:1x4: predicted 4.1x", 4.1),
        Layer("fc2", "Gemm", SHRUNK["fc2"], 0.3, "", "dense", few, 1.0),
    )


def make_artifact(out: Path, ticket: Ticket, cell: tuple[str, str], variant: str, names: dict[str, str]) -> Artifact:
    """names: layer name -> name in the certificate, to try odd ones."""
    rng = np.random.default_rng(len(variant) + len("".join(cell)))
    runtime, precision = cell
    name = f"{ticket.task_name}-rpi4-{runtime}-{precision}"
    folder = out / "artifacts" / (name if variant == "ticket" else f"{name}-dense")
    folder.mkdir(parents=True, exist_ok=True)
    weight_bytes = 4 if precision == "fp32" else 1
    size = int((77_000 if variant == "ticket" else 431_000) * weight_bytes + 9_000)
    library = LIBRARY if runtime == "onnxruntime" and variant == "ticket" else b""
    model_file = "model.onnx" if runtime == "onnxruntime" else "model.tflite"
    (folder / model_file).write_bytes(rng.bytes(64) + f"{name}{variant}{ticket.id}".encode())
    probes = {"input": rng.random((4, 1, 28, 28), dtype=np.float32), "output_0": rng.random((4, 10), dtype=np.float32)}
    files = {
        "probes.safetensors": store.write_tensors(folder / "probes.safetensors", probes),
        model_file: store.sha256_file(folder / model_file),
    }
    if library:
        (folder / "libedgeprune.so").write_bytes(library)
        files["libedgeprune.so"] = store.sha256_bytes(library)
    zeros = {}
    for layer, shape in (SHRUNK if variant == "ticket" else LAYERS).items():
        total = int(np.prod(shape))
        expected = int(total * 0.05) if variant == "ticket" else 0
        gained = 3 if precision == "int8" else 0
        zeros[names.get(layer, layer)] = Zeros(expected, 0, gained, total, (total - expected - gained) / total)
    artifact = Artifact(
        path=folder,
        ticket_id=ticket.id,
        task_name=ticket.task_name,
        seed=ticket.median_seed,
        target="rpi4",
        runtime=runtime,
        precision=precision,
        variant=variant,
        twin=f"{name}-dense" if variant == "ticket" else "",
        model_file=model_file,
        files=files,
        inputs=(Port("input", (-1, 1, 28, 28), "float32", "NCHW"),),
        outputs=(Port("output_0", (-1, 10), "float32", ""),),
        zeros=zeros,
        parity_max_abs=3.8e-6 if precision == "fp32" else 0.31,
        parity_scale=17.4,
        tolerance=1.7e-3 if precision == "fp32" else 0.9,
        metric_name=ticket.metric_name,
        metric_torch=0.9894,
        metric_runtime=0.9894 if precision == "fp32" else 0.9886,
        size_bytes=size + len(library),
        size_zip_bytes=int(size * (0.62 if variant == "ticket" else 0.92)) + len(library) // 2,
        library="libedgeprune.so" if library else "",
        library_bytes=len(library),
        library_zip_bytes=len(library) // 2,
        metric_test_runtime=0.9881 if precision == "fp32" else 0.9873,
        metric_test_torch=0.9881,
        metric_test_dense=0.9885,
        smaller_is_better=ticket.smaller_is_better,
        metric_unit=ticket.metric_unit,
        options={"target": "rpi4", "max_drop": 0.01, "portable": False},
        weights_total=430_500,
        weights_removed=430_500 - 62_520 if variant == "ticket" else 0,
        channels_removed={"conv1": 8, "conv2": 31, "fc1": 320} if variant == "ticket" else {},
        sparse_tensors=(),
        calibration="entropy" if precision == "int8" else "",
        versions={"edgeprune": "0.1.0", "torch": "2.13.0", runtime: "1.32.0"},
        layers=make_layers(variant, runtime),
        signals=(Signal("output_0", 31.26, 32.0),) if precision == "int8" else (),
    )
    artifact.save()
    return artifact


def make_block(rng: np.random.Generator, role: str, millis: float, artifact: Artifact, samples: int) -> Block:
    """One process: log-normal latencies around `millis` with a tail of preemptions."""
    latencies = millis * 1e6 * (1 + rng.lognormal(-3.5, 0.7, samples)) * (1 + rng.normal(0, 0.004))
    latencies[rng.random(samples) < 0.01] *= 3
    resident = artifact.size_bytes * 2 + int(rng.integers(0, 40_000))
    phases = {"import": 0, "load": resident, "first": resident + 300_000, "steady": resident + 420_000}
    base = {"rss_anon": 21_000_000, "rss_file": 33_000_000, "hwm": 56_000_000, "swap": 0, "pss": 47_000_000}
    memory = {
        phase: {key: value + (0 if key in ("swap", "rss_file") else extra) for key, value in base.items()}
        for phase, extra in phases.items()
    }
    conditions = {
        "governor": "performance",
        "frequency_khz": 1800000,
        "temp_millic": 51_000 + int(rng.integers(0, 3000)),
        "throttled": "unreadable",
        "load_1m": 0.21,
    }
    return Block(
        role=role,
        start_ns=41_000_000,
        import_ns=int(rng.normal(180e6, 4e6)),
        load_ns=int(rng.normal(6e6 * millis, 2e5)),
        first_ns=int(millis * 4e6),
        warmup_ns=tuple(int(value * 1.5) for value in latencies[:5]),
        samples_ns=tuple(int(value) for value in latencies),
        memory_bytes=memory,
        conditions_before=conditions,
        conditions_after={**conditions, "temp_millic": conditions["temp_millic"] + 900},
        model_sha256=artifact.files[artifact.model_file],
        output_max_abs=artifact.parity_max_abs,
    )


PROFILE_NS = {"artifact": (20_000, 30_000, 25_000, 5_000), "against": (40_000, 90_000, 100_000, 5_000)}


def with_profile(block: Block) -> Block:
    """The block with times of all layers and of a kernel that belongs to none."""
    layers = dict(zip(LAYERS, PROFILE_NS[block.role]))
    return replace(block, layers_ns={**layers, "flatten": 2_000})


def make_measurement(
    out: Path, artifact: Artifact, twin: Artifact | None, blocks: int = 8, samples: int = 150
) -> Timed:
    rng = np.random.default_rng(11)
    fast, slow = SPEEDS[(artifact.runtime, artifact.precision)]
    order = ["artifact", "against", "against", "artifact"] * blocks if twin else ["artifact"] * blocks
    made = tuple(
        make_block(
            rng, role, fast if role == "artifact" else slow, twin if twin and role == "against" else artifact, samples
        )
        for role in order[: 2 * blocks]
    )
    if artifact.layers and twin:
        made = (*made[:-2], *(with_profile(block) for block in made[-2:]))
    measurement = Timed(
        path=out / "measurements" / f"{artifact.path.name}-local.json",
        artifact_path=str(artifact.path),
        artifact_sha256=artifact.files[artifact.model_file],
        against_path=str(twin.path) if twin else "",
        against_sha256=twin.files[twin.model_file] if twin else "",
        ticket_id=artifact.ticket_id,
        target="rpi4",
        connection="ssh",
        runtime=artifact.runtime,
        precision=artifact.precision,
        threads=1,
        created="2026-03-14T09:26:53Z",
        environment={
            "host": "bench-01",
            "machine": "Raspberry Pi 4 Model B Rev 1.4",
            "arch": "aarch64",
            "cpu": "Cortex-A72",
            "python": "3.11.2",
            "runtime": {"name": artifact.runtime, "version": "1.32.0"},
        },
        blocks=made,
        plan={"seed": 5, "pairs": blocks, "samples": samples},
        asked={"target": "rpi4", "host": "pi@bench-01"},
    )
    measurement.save()
    return measurement


def build(
    out: Path,
    cells: tuple[tuple[str, str], ...] = tuple(SPEEDS),
    names: dict[str, str] | None = None,
    ticket: Ticket | None = None,
    measured: bool = True,
) -> Built:
    """A whole run under `out`: one ticket, a bundle and a twin for each cell, a measurement for each bundle."""
    ticket = ticket or make_ticket(out, make_spec())
    artifacts, measurements = [], []
    for cell in cells:
        bundle, twin = (make_artifact(out, ticket, cell, variant, names or {}) for variant in ("ticket", "dense"))
        artifacts += [bundle, twin]
        if measured:
            measurements.append(make_measurement(out, bundle, twin))
    return Built(out, ticket, tuple(artifacts), tuple(measurements))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One run for every test that only reads."""
    return build(tmp_path_factory.mktemp("out"))


class Make:
    """The builders of single nouns."""

    spec = staticmethod(make_spec)
    verdict = staticmethod(make_verdict)
    ticket = staticmethod(make_ticket)
    artifact = staticmethod(make_artifact)
    measurement = staticmethod(make_measurement)


@pytest.fixture(scope="session")
def make() -> type[Make]:
    """The builders of single nouns, for tests that need something out of the ordinary."""
    return Make


@pytest.fixture
def build_at() -> Callable[..., Built]:
    """`build`, for tests that change what lies on disk."""
    return build
