"""`bench --emulate`: exact counts of a bundle beside its twin, labelled as such and never taken for times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune import Artifact, Measurement, load_target
from edgeprune.bench.emulation import counter, emulate, run
from edgeprune.cli import cli
from edgeprune.errors import DeviceError, MeasurementError, TargetError
from edgeprune.measurement import timed
from tests.bench.conftest import make_bundle, make_target

NARROW, WIDE = 16, 256


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """runtime -> bundle beside a "dense twin" that has sixteen times as many units."""
    out = tmp_path_factory.mktemp("out")
    found = {}
    for runtime in ("onnxruntime", "litert"):
        twin = f"{runtime}-dense"
        make_bundle(out / "artifacts" / twin, runtime, WIDE, variant="dense")
        found[runtime] = make_bundle(out / "artifacts" / runtime, runtime, NARROW, twin=twin)
    return found


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_two_runs_are_equal_to_the_last_digit_and_labelled_everywhere(
    runtime: str, root: Path, bundles: dict[str, Artifact]
) -> None:
    out = bundles[runtime].path.parents[1]
    command = ["bench", str(bundles[runtime].path), "--target", "rpi4", "--emulate", "--out", str(out), "--json"]
    first = CliRunner().invoke(cli, command)
    assert first.exit_code == 0, first.output
    (one,) = json.loads(first.stdout)
    again = emulate(bundles[runtime], None, load_target("rpi4"), out)
    assert (one["kind"], one["emulated_instructions"]) == (again.kind, again.summary.instructions)
    mine, dense = one["emulated_instructions"], one["against_emulated_instructions"]
    work = (WIDE - NARROW) * (8 + 4)  # multiplications less
    assert work / 8 <= dense - mine <= 4 * work
    assert one["ratio_of_emulated_instructions"] == dense / mine
    assert one["environment"]["processor"] == "cortex-a72"
    assert not [key for key in one if key.endswith("_ns")]
    said = first.stderr.replace("\N{NO-BREAK SPACE}", "")
    assert f"{mine} emulated instructions per inference (cortex-a72, 1 thread), " in said
    assert " fewer than the dense twin" in said

    shown = CliRunner().invoke(cli, ["inspect", one["path"]])
    assert "Emulated instructions" in shown.output
    page = CliRunner().invoke(cli, ["report", one["path"], "--out", str(out)])
    assert page.exit_code == 0, page.output
    assert f"{mine} emulated instructions per inference" in page.stderr.replace("\N{NO-BREAK SPACE}", "")
    html = Path(page.stdout.strip()).read_text().replace("\N{NO-BREAK SPACE}", "")
    assert "<h2>Emulated instructions</h2>" in html and f"<span>{mine}</span>" in html
    assert f"bench {bundles[runtime].path} --target rpi4 --emulate" in html


def test_a_count_has_no_times_to_be_mixed_up(root: Path, bundles: dict[str, Artifact], tmp_path: Path) -> None:
    counted = emulate(bundles["litert"], None, load_target("rpi-zero2w"), tmp_path)
    assert (counted.kind, counted.environment["processor"]) == ("emulated instructions", "cortex-a53")
    assert counted.summary.instructions > 0 and counted.summary.against is None
    assert Measurement.load(counted.path) == counted
    assert not any(hasattr(counted, name) for name in ("blocks", "samples", "layers_ns"))
    with pytest.raises(MeasurementError, match="holds emulated instructions, no samples"):
        timed(counted)


def test_a_sparse_bundle_is_counted_with_its_kernels(root: Path, tmp_path: Path) -> None:
    artifact = make_bundle(tmp_path / "here", sparse=True)  # for this machine; arm64 takes the package's library
    counted = emulate(artifact, None, load_target("rpi5"), tmp_path)
    assert counted.environment["processor"] == "cortex-a76"
    assert counted.counts[0].output_max_abs <= artifact.tolerance


def test_wrong_outputs_are_no_count(root: Path, tmp_path: Path) -> None:
    artifact = make_bundle(tmp_path / "wrong", expected=np.ones((5, 4), np.float32))
    with pytest.raises(DeviceError, match="wrong computes wrong outputs on the emulated cortex-a72: off by"):
        emulate(artifact, None, load_target("rpi4"), tmp_path)
    assert not (tmp_path / "measurements").exists()


def test_runs_that_differ_are_no_count(
    bundles: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, numbers = bundles["onnxruntime"], iter([1000, 1001])
    outputs = (artifact.probes()["output_0"][:1],)
    monkeypatch.setattr(run, "count", lambda *_: counter.Counted(next(numbers), outputs, {}))
    with pytest.raises(DeviceError, match="two runs counted 1000 and 1001 instructions"):
        emulate(artifact, None, load_target("rpi4"), tmp_path)


@pytest.mark.parametrize(
    ("target", "processor"), [("rpi4", "cortex-a72"), ("rpi5", "cortex-a76"), ("rpi-zero2w", "cortex-a53")]
)
def test_the_processor_is_the_targets(target: str, processor: str) -> None:
    assert run.processor_of(load_target(target)) == processor


def test_a_target_that_cannot_be_emulated_is_told() -> None:
    with pytest.raises(TargetError, match="no processor 'any' can be emulated.*choose a target with one of"):
        run.processor_of(make_target())


def test_two_kinds_of_bundle_are_not_compared(bundles: dict[str, Artifact], tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="for different runtimes or precisions"):
        emulate(bundles["onnxruntime"], bundles["litert"], load_target("rpi4"), tmp_path)


def test_without_qemu_the_install_line_is_said(
    bundles: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["bench", str(bundles["litert"].path), "--target", "rpi4", "--emulate", "--out", str(tmp_path)]
    with pytest.raises(DeviceError, match="QEMU .* is not installed; on Debian run: sudo apt-get install qemu-user"):
        CliRunner().invoke(cli, command, catch_exceptions=False)


def test_a_host_is_refused(bundles: dict[str, Artifact]) -> None:
    done = CliRunner().invoke(cli, ["bench", str(bundles["litert"].path), "--emulate", "--host", "pi"])
    assert done.exit_code == 2
    assert "--emulate counts on this machine, it takes no --host" in done.output
