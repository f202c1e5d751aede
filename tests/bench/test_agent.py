"""The agent as a program of its own: real runtimes on small models, and runtimes that misbehave."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from edgeprune import kernels
from edgeprune.artifact import Artifact
from edgeprune.bench import Plan
from edgeprune.bench.block import Bundle, make_job
from edgeprune.device import FIRST_LINE_NS, job, parcel, sensors, session, system

Make = Callable[..., Artifact]
Fake = Callable[..., None]
SENSORS = ("frequency", "governor", "temperature", "load")


def prepare(folder: Path, artifact: Artifact, plan: Plan, **changes: Any) -> list[str]:
    """Lay the agent, a bundle and a job into a folder; the command that runs them there."""
    shutil.copytree(artifact.path, folder / "artifact")
    (folder / "agent.pyz").write_bytes(parcel.parcel())
    asked = replace(make_job(Bundle("artifact", artifact), 1, SENSORS, plan, 1), **changes)
    (folder / "job.json").write_text(json.dumps(asdict(asked)))
    return [sys.executable, "agent.pyz", "job.json"]


def run(folder: Path, artifact: Artifact, plan: Plan, **changes: Any) -> tuple[int, str, dict[str, Any]]:
    """Exit status, stderr and result of one run."""
    command = prepare(folder, artifact, plan, **changes)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    result = folder / "result-1.json"
    return done.returncode, done.stderr, json.loads(result.read_bytes()) if result.exists() else {}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples-1.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "device").mkdir()
    return tmp_path / "device"


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_all_phases_are_measured(folder: Path, bundle: Make, short_plan: Plan, runtime: str) -> None:
    artifact = bundle(runtime=runtime)
    status, stderr, result = run(folder, artifact, short_plan)
    assert status == 0, stderr
    written = lines(folder)
    assert [line["phase"] for line in written if "phase" in line] == ["import", "load", "first", "warmup", "steady"]
    samples = [sample for line in written for sample in line.get("samples_ns", [])]
    assert len(samples) == result["samples"] == short_plan.samples
    assert len(result["warmup_ns"]) == short_plan.warmups
    times = [result[name] for name in ("start_ns", "import_ns", "load_ns", "first_ns")]
    assert all(isinstance(value, int) and value > 0 for value in times + samples + result["warmup_ns"])
    assert 0 <= result["output_max_abs"] <= artifact.tolerance
    assert result["model_sha256"] == artifact.files[artifact.model_file]
    assert list(result["memory_bytes"]) == ["start", "import", "load", "first", "steady"]
    assert {path.name for path in folder.iterdir()} == {
        "agent.pyz", "job.json", "artifact", "samples-1.jsonl", "result-1.json",
    }  # fmt: skip


def test_environment_and_memory_are_recorded(folder: Path, bundle: Make, short_plan: Plan) -> None:
    _, _, result = run(folder, bundle(), short_plan)
    import onnxruntime

    environment = result["environment"]
    assert environment["runtime"] == {"name": "onnxruntime", "version": onnxruntime.__version__}
    assert environment["numpy"] == np.__version__
    assert environment["variables"] == {"ORT_DISABLE_TELEMETRY": "1"}
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["cores"] == os.cpu_count() and environment["cpu"]
    if Path("/proc/self/smaps_rollup").exists():
        for phase in result["memory_bytes"].values():
            assert set(phase) >= {"rss_anon", "rss_file", "hwm", "pss"}
            assert phase["hwm"] >= phase["rss_anon"] > 0
        grown = result["memory_bytes"]["import"]["pss"] - result["memory_bytes"]["start"]["pss"]
        assert grown > 1_000_000


def test_conditions_are_read_before_and_after(folder: Path, bundle: Make, short_plan: Plan) -> None:
    _, _, result = run(folder, bundle(), short_plan, sensors=[*SENSORS, "smell"])
    for when in ("conditions_before", "conditions_after"):
        assert result[when]["smell"] == "unreadable"
        assert {"load_1m", "running", "cpu_pressure_us", "preemptions"} <= set(result[when])
        assert any(name.startswith("temp_millic") for name in result[when])


@pytest.mark.parametrize("probe", [0, 3])
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_wrong_output_fails(folder: Path, bundle: Make, short_plan: Plan, runtime: str, probe: int) -> None:
    good = bundle("good").probes()["output_0"].copy()
    good[probe, 2] += 0.01
    status, stderr, result = run(folder, bundle("bad", runtime=runtime, expected=good), short_plan)
    assert status == 1
    assert f"inference {probe + 1} gave, for probe {probe}, an output off by 0.01 (tolerance 0.0001)" in stderr
    assert result["error"]["message"] == stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("outputs[0][0, 1] = 0.5", "off by 0.5"),
        ("outputs[0][0, 1] = float('nan')", "off by nan"),
        ("outputs[0] = outputs[0][:, :3]", "shape [1, 3] instead of [1, 4]"),
        ("outputs = outputs * 2", "2 outputs instead of 1"),
    ],
)
def test_output_that_goes_wrong_later_fails(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any, what: str, message: str
) -> None:
    fake_runtime(run=f"if self.count == 30: {what}")
    plan = Plan(seed=1, samples=100, seconds=0.0, warmups=5)
    status, stderr, result = run(folder, bundle(expected=zeros), plan)
    assert (status, list(result)) == (1, ["error"])
    assert "inference 30 gave" in stderr and message in stderr


def test_slow_model_is_limited_by_time(folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any) -> None:
    fake_runtime(run="time.sleep(0.05)")
    plan = Plan(seed=1, samples=100, seconds=0.1, limit_seconds=0.2, warmups=50)
    status, stderr, result = run(folder, bundle(expected=zeros), plan)
    assert status == 0, stderr
    assert 1 <= len(result["warmup_ns"]) <= 2
    assert 3 <= result["samples"] <= 4
    assert all(sample >= 50_000_000 for line in lines(folder) for sample in line.get("samples_ns", []))


def test_very_slow_model_still_gives_three_samples(folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any) -> None:
    fake_runtime(run="time.sleep(0.05)")
    plan = Plan(seed=1, samples=100, seconds=0.0, limit_seconds=0.0, warmups=0)
    _, _, result = run(folder, bundle(expected=zeros), plan)
    assert (result["samples"], result["warmup_ns"]) == (3, [])


def test_fast_model_goes_on_for_the_time_asked(folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any) -> None:
    fake_runtime()
    plan = Plan(seed=1, samples=5, seconds=0.05, warmups=1)
    _, _, result = run(folder, bundle(expected=zeros), plan)
    assert result["samples"] > session.SAMPLES_PER_LINE > plan.samples
    assert sum(len(line.get("samples_ns", [])) for line in lines(folder)) == result["samples"]


@pytest.mark.parametrize("file", ["model.onnx", "probes.safetensors"])
def test_altered_file_is_refused(folder: Path, bundle: Make, short_plan: Plan, file: str) -> None:
    command = prepare(folder, bundle(), short_plan)
    with (folder / "artifact" / file).open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"?")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"artifact/{file} on the device is not the file that was sent" in done.stderr


def test_missing_file_is_refused(folder: Path, bundle: Make, short_plan: Plan) -> None:
    command = prepare(folder, bundle(), short_plan)
    (folder / "artifact" / "model.onnx").unlink()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "cannot read artifact/model.onnx" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("runtime", "hidden", "line"),
    [
        ("onnxruntime", ["onnxruntime"], "run: pip install onnxruntime"),
        ("litert", ["ai_edge_litert", "tflite_runtime", "tensorflow"], "run: pip install ai-edge-litert"),
    ],
)
def test_missing_runtime_gives_the_install_line(
    folder: Path, bundle: Make, short_plan: Plan, monkeypatch: pytest.MonkeyPatch, runtime: str, hidden: list[str],
    line: str,
) -> None:  # fmt: skip
    site = folder / "site"
    site.mkdir()
    for name in hidden:
        (site / f"{name}.py").write_text(f"raise ModuleNotFoundError('no module {name} here', name='{name}')")
    monkeypatch.setenv("PYTHONPATH", str(site))
    status, stderr, result = run(folder, bundle(runtime=runtime), short_plan)
    assert status == 1
    assert "installed on the device" in stderr
    assert all(f"no module {name} here" in stderr for name in hidden)
    assert result["error"]["hint"] == line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read the job"),
        ("[1]", "does not fit this agent"),
        ('{"runtime": "litert"}', "'files'"),
        (None, "cannot read the job"),
    ],
)
def test_bad_job_is_one_line(folder: Path, content: str | None, message: str) -> None:
    if content is not None:
        (folder / "job.json").write_text(content)
    command = [sys.executable, "-m", "edgeprune.device", "job.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_unknown_runtime(folder: Path, bundle: Make, short_plan: Plan) -> None:
    status, stderr, _ = run(folder, bundle(), short_plan, runtime="tvm")
    assert (status, "does not know the runtime 'tvm'" in stderr) == (1, True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_leave_no_file(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any, number: int, status: int
) -> None:
    fake_runtime(run="time.sleep(0.001)")
    plan = Plan(seed=1, samples=5, seconds=60, limit_seconds=60, warmups=1)
    process = subprocess.Popen(prepare(folder, bundle(expected=zeros), plan), cwd=folder)
    try:
        _until_steady(folder)
        process.send_signal(number)
        assert process.wait(30) == status
    finally:
        process.kill()
    assert {path.name for path in folder.iterdir()} == {"agent.pyz", "job.json", "artifact"}


def test_kill_leaves_what_was_measured_and_no_result(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any
) -> None:
    fake_runtime(run="if self.count == 1500: os.kill(os.getpid(), signal.SIGKILL)")
    plan = Plan(seed=1, samples=5000, seconds=0.0, limit_seconds=60, warmups=0)
    status, _, result = run(folder, bundle(expected=zeros), plan)
    assert (status, result) == (-9, {})
    assert [len(line["samples_ns"]) for line in lines(folder) if "samples_ns" in line] == [512, 512]


def _until_steady(folder: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        log = folder / "samples-1.jsonl"
        if log.exists() and "samples_ns" in log.read_text():
            return
        time.sleep(0.02)
    pytest.fail("the agent did not reach its steady phase")


@pytest.mark.parametrize("dtype", list(job.SAFETENSORS_TYPES.values()))
def test_probes_are_read_without_the_safetensors_package(tmp_path: Path, dtype: str) -> None:
    from safetensors.numpy import save_file

    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    tensors = {"input": x, "output_1": x[:, 0] + 1, "output_0": np.ascontiguousarray(x[:, :1])}
    save_file(tensors, tmp_path / "p", metadata={"a": "b"})
    (inputs,), outputs = job.read_probes(str(tmp_path / "p"), ["input"])
    np.testing.assert_array_equal(inputs, x)
    np.testing.assert_array_equal(outputs[0], x[:, :1])
    np.testing.assert_array_equal(outputs[1], x[:, 0] + 1)
    assert inputs.dtype == np.dtype(dtype)


def test_sensors_of_a_board(tmp_path: Path) -> None:
    """/sys and /proc as on a Raspberry Pi, with a zone that is switched off (a folder cannot be read as a file)."""
    files = {
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1800000\n",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone1/type": "gpu\n",
        "proc/stat": "cpu  1 2 3 4 5 6 7 900 0 0\ncpu0 1 2 3 4 5 6 7 900 0 0\n",
        "proc/loadavg": "0.20 0.18 0.12 1/80 11206\n",
        "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0 total=0\n",
        "proc/self/task/5/status": "Name:\tx\nvoluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t4\n",
        "proc/self/task/6/status": "Name:\ty\nvoluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t3\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").mkdir()
    found = sensors.read_conditions(list(SENSORS), tmp_path)
    assert found.pop("reference_ns") > 0
    assert found == {
        "frequency_khz.policy0": 1500000,
        "frequency_max_khz.policy0": 1800000,
        "governor.policy0": "ondemand",
        "temp_millic.thermal_zone0.cpu-thermal": 48312,
        "temp_millic.thermal_zone1.gpu": "unreadable",
        "steal_us": 9_000_000,
        "load_1m": 0.2,
        "running": 1,
        "cpu_pressure_us": 1234,
        "io_pressure_us": "absent",
        "memory_pressure_us": "absent",
        "preemptions": 7,
    }


def test_sensors_where_there_are_none(tmp_path: Path) -> None:
    found = sensors.read_conditions(list(SENSORS), tmp_path)
    assert found.pop("reference_ns") > 0 and set(found.values()) == {"absent"}


def test_process_start_is_taken_from_the_starter_or_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(system.STARTED_VARIABLE, "123")
    assert system.process_start_ns() == 123
    monkeypatch.delenv(system.STARTED_VARIABLE)
    if Path("/proc/self/stat").exists():
        assert FIRST_LINE_NS - 3600e9 < system.process_start_ns() <= FIRST_LINE_NS


def test_start_without_a_starters_note(folder: Path, bundle: Make, short_plan: Plan, fake_runtime: Fake) -> None:
    """The kernel's own figure: between nothing and the whole run, which is much longer than a tick."""
    fake_runtime()
    begin = time.monotonic_ns()
    _, _, result = run(folder, bundle(expected=np.zeros((5, 4))), short_plan)
    assert 0 <= result["start_ns"] <= time.monotonic_ns() - begin + 10_000_000


def test_a_model_with_sparse_kernels_brings_its_library(folder: Path, bundle: Make, short_plan: Plan) -> None:
    artifact = bundle(sparse=True)
    status, stderr, result = run(folder, artifact, short_plan)
    assert status == 0, stderr
    assert result["output_max_abs"] <= artifact.tolerance
    assert result["kernels_us"] == {}


def test_a_library_that_was_altered_is_refused(folder: Path, bundle: Make, short_plan: Plan) -> None:
    command = prepare(folder, bundle(sparse=True), short_plan)
    with (folder / "artifact" / "libedgeprune.so").open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"?")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "artifact/libedgeprune.so on the device is not the file that was sent" in done.stderr


def test_a_library_of_another_machine_is_one_line(folder: Path, bundle: Make, short_plan: Plan) -> None:
    other = next(arch for arch in kernels.ARCHITECTURES if arch != platform.machine())
    command = prepare(folder, bundle(sparse=True), short_plan, files={})
    shutil.copy(kernels.library(other), folder / "artifact" / "libedgeprune.so")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"artifact/libedgeprune.so does not load on this {platform.machine()}: " in done.stderr
    assert "bench the bundle on its own target" in json.loads((folder / "result-1.json").read_bytes())["error"]["hint"]


@pytest.mark.parametrize("sparse", [False, True])
def test_the_profile_names_each_kernel(folder: Path, bundle: Make, short_plan: Plan, sparse: bool) -> None:
    status, stderr, result = run(folder, bundle(sparse=sparse), short_plan, profile_runs=7)
    assert status == 0, stderr
    assert [line["phase"] for line in lines(folder) if "phase" in line][-2:] == ["steady", "profile"]
    kernels_us = result["kernels_us"]
    assert all(
        len(runs) == 7 and all(isinstance(each, int) and each >= 0 for each in runs) for runs in kernels_us.values()
    )
    assert ("fc1" if sparse else "fused fc1") in kernels_us and "fc2" in kernels_us
    assert {path.name for path in folder.iterdir()} == {
        "agent.pyz", "job.json", "artifact", "samples-1.jsonl", "result-1.json",
    }  # fmt: skip


def test_an_interrupted_profile_leaves_no_file(folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any) -> None:
    plan = Plan(seed=1, samples=5, seconds=0, warmups=0)
    fake_runtime(run="if self.count == 3 and self.profiled: os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)")
    status, _, _ = run(folder, bundle(expected=zeros), plan, profile_runs=9)
    assert status == 143
    assert {path.name for path in folder.iterdir()} == {"agent.pyz", "job.json", "artifact"}


@pytest.mark.parametrize("written", ['[{"name": "fc', None])
def test_a_profile_that_the_disk_had_no_space_for_is_one_line(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any, short_plan: Plan, written: Optional[str]
) -> None:
    lost = "'profile.json'" if written is None else f"(open('profile.json', 'w').write({written!r}), 'profile.json')[1]"
    fake_runtime(run=f"InferenceSession.end_profiling = lambda self: {lost}")
    status, stderr, result = run(folder, bundle(expected=zeros), short_plan, profile_runs=2)
    assert status == 1 and "Traceback" not in stderr
    assert "profile is missing or cut short" in result["error"]["message"]
    assert "free some space" in result["error"]["hint"]
    assert not (folder / "profile.json").exists()


def windows(folder: Path) -> list[dict[str, Any]]:
    return [line["window"] for line in lines(folder) if "window" in line]


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_the_sustained_phase_is_summed_up_in_windows(
    folder: Path, bundle: Make, short_plan: Plan, runtime: str
) -> None:
    status, stderr, result = run(
        folder, bundle(runtime=runtime), short_plan, sustained_seconds=0.3, window_seconds=0.1, profile_runs=2
    )
    assert status == 0, stderr
    phases = [line["phase"] for line in lines(folder) if "phase" in line]
    assert phases[4:6] == ["steady", "sustained"]
    assert result["samples"] == short_plan.samples, "the windows are no samples of the steady phase"
    found = windows(folder)
    assert found[0]["begin_ns"] < 100_000_000 and found[-1]["end_ns"] >= 300_000_000
    for one, other in zip(found, found[1:]):
        assert one["begin_ns"] < one["end_ns"] <= other["begin_ns"]
    for each in found:
        assert 0 < each["p50_ns"] <= each["p90_ns"] <= each["max_ns"]
        assert each["mean_ns"] * each["count"] <= each["end_ns"] - each["begin_ns"]
        assert "load_1m" in each["conditions"]


def test_a_window_has_enough_samples_for_what_it_says(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any
) -> None:
    fake_runtime(run="time.sleep(0.002 * (self.count % 11))")
    plan = Plan(seed=1, samples=3, seconds=0.0, warmups=7)  # with the first and these, eleven: then a window begins
    status, stderr, _ = run(folder, bundle(expected=zeros), plan, sustained_seconds=0.01, window_seconds=0.01)
    assert status == 0, stderr
    (window,) = windows(folder)
    assert (window["count"], window["p90_ns"]) == (11, None)
    assert window["p50_ns"] >= 10_000_000, "the sixth of 0, 2, ... 20 ms"
    assert max(window["p50_ns"], 20_000_000) < window["max_ns"]


def test_a_kill_in_the_sustained_phase_leaves_its_windows(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any
) -> None:
    fake_runtime(run="if self.count == 40: os.kill(os.getpid(), signal.SIGKILL)")
    plan = Plan(seed=1, samples=3, seconds=0.0, warmups=0)
    status, _, result = run(folder, bundle(expected=zeros), plan, sustained_seconds=60, window_seconds=0.0)
    assert (status, result) == (-9, {})
    assert [window["count"] for window in windows(folder)] == [11, 11, 11]


def test_wrong_output_in_the_sustained_phase_fails(folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any) -> None:
    fake_runtime(run="if self.count == 30: outputs[0][0, 1] = 0.5")
    plan = Plan(seed=1, samples=3, seconds=0.0, warmups=0)
    status, stderr, _ = run(folder, bundle(expected=zeros), plan, sustained_seconds=60, window_seconds=0.0)
    assert (status, "inference 30 gave" in stderr) == (1, True)


def test_power_is_sampled_at_rest_and_through_the_phases(
    folder: Path, bundle: Make, short_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent finds the board's program in PATH and runs it beside the samples."""
    programs, recorded = folder / "programs", Path(__file__).parent / "recorded/vcgencmd_pmic_read_adc.txt"
    programs.mkdir()
    (programs / "vcgencmd").write_text(f"#!/bin/sh\n[ $1 = pmic_read_adc ] && exec cat {recorded}\n")
    (programs / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    asked: dict[str, Any] = {
        "sensors": ["power"],
        "idle_seconds": 0.25,
        "sustained_seconds": 0.01,
        "window_seconds": 0.0,
    }
    status, stderr, result = run(folder, bundle(), short_plan, **asked)
    assert status == 0, stderr
    assert list(result["power_uw"]) == ["idle", "steady", "sustained"]
    assert all(samples for samples in result["power_uw"].values())
    assert {value for samples in result["power_uw"].values() for _, value in samples} == {
        result["conditions_before"]["power_uw"]
    }
    assert result["conditions_after"]["power_reading_ns"] > 0
    assert windows(folder)[0]["conditions"]["power_of"] == "the sum of 12 rails"


def test_without_a_power_sensor_there_is_no_power(folder: Path, bundle: Make, short_plan: Plan) -> None:
    _, _, result = run(folder, bundle(), short_plan, idle_seconds=1e6)
    assert result["power_uw"] == {} and "power_reading_ns" not in result["conditions_after"]


PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def test_providers_that_this_build_lacks_are_passed_over(folder: Path, bundle: Make, short_plan: Plan) -> None:
    status, stderr, result = run(folder, bundle(), short_plan, providers=PROVIDERS)
    assert status == 0, stderr
    assert result["environment"]["runtime"]["providers"] == ["CPUExecutionProvider"]
    variables = result["environment"]["variables"]
    assert variables["NVIDIA_TF32_OVERRIDE"] == "0" and variables["ORT_TENSORRT_SPARSITY_ENABLE"] == "1"


def test_providers_are_asked_for_in_the_job_s_order(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any, short_plan: Plan
) -> None:
    """A build for a Jetson, whose TensorRT is not installed: it says what it got."""
    fake_runtime(
        load="assert providers == ['TensorrtExecutionProvider', 'CPUExecutionProvider'], providers\n"
        "        assert os.environ['NVIDIA_TF32_OVERRIDE'] == '0'"
    )
    with (folder.parent / "site/onnxruntime.py").open("a") as file:
        file.write("def get_available_providers():\n    return ['CPUExecutionProvider', 'TensorrtExecutionProvider']\n")
        file.write("InferenceSession.get_providers = lambda self: ['CPUExecutionProvider']\n")
    status, stderr, result = run(folder, bundle(expected=zeros), short_plan, providers=PROVIDERS)
    assert status == 0, stderr
    assert result["environment"]["runtime"]["providers"] == ["CPUExecutionProvider"]


def test_programs_of_sensors_run_before_the_warm_up(
    folder: Path, bundle: Make, fake_runtime: Fake, zeros: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the warm-up and the samples nothing runs that lets the clock fall."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "vcgencmd").write_text(f"#!/bin/sh\necho vcgencmd >> {folder}/order\n")
    (programs / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    fake_runtime(run=f"open('{folder}/order', 'a').write('model ')")
    plan = Plan(seed=1, samples=5, seconds=0.0, warmups=3)
    status, stderr, _ = run(folder, bundle(expected=zeros), plan, sensors=["frequency", "temperature", "throttling"])
    assert status == 0, stderr
    order = (folder / "order").read_text().split()
    assert order == ["model"] + ["vcgencmd"] * 2 + ["model"] * (3 + 5) + ["vcgencmd"] * 2
