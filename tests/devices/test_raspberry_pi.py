"""An emulated Raspberry Pi 4 over real ssh: what is exported for one runs there, in every runtime of device_setup."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

import edgeprune
from edgeprune import Artifact, Measurement, connections, load_target
from edgeprune.bench import Plan, bench
from tests.bench.conftest import make_bundle
from tests.connections.ssh_server import HOST
from tests.devices.raspberry_pi import TFLITE_PYTHON, RaspberryPi

ROOT = Path(edgeprune.__file__).parents[1]
PINS = dict(
    line.split(";")[0].strip().split("==")
    for name in ("device-requirements-tflite-runtime.txt", "device-requirements.txt")
    for line in (ROOT / name).read_text().splitlines()
    if "==" in line and ("python_version" not in line or ">=" in line)
)
CELLS = [(runtime, precision) for runtime in ("onnxruntime", "litert") for precision in ("fp32", "int8")]
SHORT = Plan(seed=1, pairs=1, samples=5, seconds=0.0, limit_seconds=20.0, warmups=2, floor_pairs=0)


def measure(artifact: Artifact, against: Optional[Artifact], folder: Path, python: str = "") -> Measurement:
    """A short measurement by one of the Pi's interpreters; a process there takes seconds to start."""
    with connections.load("ssh").connect(HOST, python) as connection:
        return bench(artifact, against, load_target("rpi4"), connection, SHORT, folder)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_what_is_exported_for_a_pi_runs_there(
    cell: tuple[str, str], digits_bundles: dict[tuple[str, str], Artifact], pi: RaspberryPi, tmp_path: Path
) -> None:
    artifact = digits_bundles[cell]
    measurement = measure(artifact, None, tmp_path)
    package = "ai-edge-litert" if cell[0] == "litert" else "onnxruntime"
    environment = measurement.environment
    assert environment["runtime"] == {"name": package, "version": PINS[package]}
    assert (environment["numpy"], environment["arch"]) == (PINS["numpy"], "aarch64")
    assert environment["cpu"] == "aarch64, implementer 0x41, part 0xd08"
    block = measurement.of("artifact")[0]
    assert len(block.samples_ns) == 5
    assert block.model_sha256 == artifact.files[artifact.model_file]
    assert block.output_max_abs <= artifact.tolerance
    assert block.conditions_before["governor.policy0"] == "ondemand"
    assert block.conditions_before["frequency_khz.policy0"] == 1_800_000
    assert block.conditions_after["temp_millic.thermal_zone0.cpu-thermal"] == 48_686


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_older_interpreter_of_tflite_files_runs_them_too(
    precision: str, digits_bundles: dict[tuple[str, str], Artifact], pi: RaspberryPi, tmp_path: Path
) -> None:
    measurement = measure(digits_bundles["litert", precision], None, tmp_path, TFLITE_PYTHON)
    assert measurement.environment["runtime"] == {"name": "tflite-runtime", "version": "2.14.0"}
    assert measurement.environment["numpy"] == "1.26.4"


def test_the_sparse_kernels_run_there_beside_the_dense_twin(pi: RaspberryPi, tmp_path: Path) -> None:
    artifact = make_bundle(tmp_path / "sparse", sparse="aarch64", twin="dense")
    measurement = measure(artifact, make_bundle(tmp_path / "dense", variant="dense"), tmp_path)
    for role in ("artifact", "against"):
        assert measurement.of(role)[0].output_max_abs <= artifact.tolerance
        assert {"fc1", "fc2"} <= set(measurement.layers_ns(role))
