"""A phone without Python: a native runner over the real adb client, in an emulated arm64 system with Android's shell
and tools. The runner is a stand-in for LiteRT's benchmark_model; what the real one printed elsewhere is parsed, too."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from edgeprune.artifact import Artifact
from edgeprune.bench import Plan, Request, bench_blocks
from edgeprune.bench.conditions import warnings
from edgeprune.bench.devices import bench_devices
from edgeprune.bench.runner import Runner, parse
from edgeprune.blocks import NativeRun
from edgeprune.cli import cli
from edgeprune.connections import Connection, local
from edgeprune.connections.adb import connect
from edgeprune.doctor import device_checks
from edgeprune.errors import DeviceError, DeviceTransientError, MeasurementError, UnfairConditionsError
from edgeprune.measurement import Aggregated, Measurement, timed
from edgeprune.report import print_devices
from edgeprune.target import load_target
from tests.bench.conftest import make_bundle
from tests.connections.adb_server import AdbServer
from tests.connections.devices import arm64_phone

SOURCE = Path(__file__).with_name("benchmark_model.c")
PLAN = Plan(seed=0, warmups=5, samples=20, seconds=0.0, limit_seconds=30.0)


def run_native(connection: Connection, program: Path, model: Path, threads: int, plan: Plan) -> NativeRun:
    return Runner.push(connection, program, {"artifact": model}).run("artifact", threads, plan)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the phone."""
    out = tmp_path_factory.mktemp("runner") / "benchmark_model"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static", "-O2", "-Werror"]
    subprocess.run([*compiler, "-Wall", "-o", str(out), str(SOURCE), "-lm"], check=True)
    return out


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What begins like a .tflite file, and is large enough that a run takes microseconds."""
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(256)) * 400)
    return tmp_path / "model.tflite"


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with pytest.MonkeyPatch.context() as patch, arm64_phone(tmp_path_factory.mktemp("phone"), patch) as server:
        yield server


@pytest.fixture
def connection(phone: AdbServer) -> Iterator[Connection]:
    with connect(phone.serial) as opened:
        yield opened


def left_on(phone: AdbServer) -> str:
    """Files of the shell, and processes of connections."""
    look = """ls -A /data/local/tmp
for each in /proc/[0-9]*; do case $(cat $each/cmdline) in */.device."sh"*) echo device.sh ;; esac; done"""
    line = [*phone.phone.prefix, "/bin/sh", "-c", look]
    return subprocess.run(line, env=phone.phone.environment, capture_output=True, text=True, check=True).stdout


def test_the_phone_is_one_without_python(connection: Connection) -> None:
    assert connection.python == ""
    assert connection.execute(["uname", "-m"], 30) == "aarch64\n"
    assert connection.execute(["id", "-un"], 30) == "shell\n"
    assert connection.execute(["pwd"], 30).startswith("/data/local/tmp/edgeprune-")
    with pytest.raises(DeviceError, match="python3"):
        connection.execute(["python3", "-V"], 30)
    policy = "/sys/devices/system/cpu/cpufreq/policy4"
    assert connection.execute(["cat", f"{policy}/scaling_governor"], 30) == "schedutil\n"


def test_doctor_says_what_the_phone_lacks(phone: AdbServer) -> None:
    found = list(device_checks(load_target("android-arm64"), lambda: connect(phone.serial)))
    states = {check.name: (check.state, check.detail) for check in found}
    assert states["connection"] == ("ok", "adb")
    assert states["python"] == ("missing", "there is none")


def test_the_contract_of_files_and_processes_holds_there(connection: Connection, tmp_path: Path) -> None:
    data = bytes(range(256)) * 3000
    (tmp_path / "sent").write_bytes(data)
    connection.push(tmp_path / "sent", "folder/with space/file")
    connection.pull("folder/with space/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    given = ["a b", "$HOME", "`id`", "'\"", "*", "", "ä\nö"]
    assert connection.execute(["printf", "<%s>", *given], 30) == "".join(f"<{each}>" for each in given)
    with pytest.raises(DeviceError, match="exit status 7: the reason"):
        connection.execute(["sh", "-c", "echo the reason >&2; exit 7"], 30)
    with pytest.raises(DeviceTransientError, match="did not end within"):
        connection.execute(["sleep", "1000"], 1)


def test_a_model_runs_and_nothing_is_left(phone: AdbServer, runner: Path, model: Path) -> None:
    with connect(phone.serial) as connection:
        found = run_native(connection, runner, model, 2, PLAN)
        assert "edgeprune-" in left_on(phone)
        assert "device.sh" in left_on(phone)
    assert found.count == 20
    assert 0 < found.min_ns <= found.avg_ns <= found.max_ns
    assert found.init_ns > 0
    assert found.first_ns > 0
    assert found.peak_memory_bytes is not None
    assert found.model_sha256 == sha256(model)
    for _ in range(30):  # the guard looks once a second
        if not left_on(phone):
            break
    assert left_on(phone) == ""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Beside a "dense twin" of a file sixteen times as long, which the stand-in takes sixteen times as long for."""
    folder = tmp_path_factory.mktemp("out") / "artifacts"
    make_bundle(folder / "dense", "litert", 4096, variant="dense")
    return make_bundle(folder / "small", "litert", 256, twin="dense")


def test_bench_on_a_phone_without_python(phone: AdbServer, runner: Path, bundle: Artifact, tmp_path: Path) -> None:
    given = ["--target", "android-arm64", "--host", phone.serial, "--runner", str(runner), "--pairs", "1"]
    done = CliRunner().invoke(cli, ["bench", str(bundle.path), *given, "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    assert found["kind"] == Aggregated.kind and found["blocks"] == found["against"]["blocks"] == 1
    assert found["environment"]["runner"] == {"name": runner.name, "sha256": sha256(runner)}
    assert found["environment"]["arch"] == "aarch64"
    assert not {"p50_ns", "p90_ns", "output_max_abs"} & set(found)
    assert 0 < found["min_ns"] <= found["mean_ns"] <= found["max_ns"]
    assert found["ratio"]["value"] > 4 and found["noise_floor"]["pairs"] == 1
    assert found["conditions_before"]["governor.policy4"] == "schedutil"
    measurement = Measurement.load(Path(found["path"]))
    assert isinstance(measurement, Aggregated)
    roles = [run.role for run in measurement.native]
    assert sorted(roles) == ["against", "artifact", "floor_a", "floor_b"]
    assert {run.model_sha256 for run in measurement.native} == {measurement.artifact_sha256, measurement.against_sha256}
    with pytest.raises(MeasurementError, match="holds a native runner's aggregates, no samples"):
        timed(measurement)
    assert "mean " in done.stderr and "as fast as the dense twin" in done.stderr


# A run takes as many microseconds as the graph has bytes.
BY_SIZE = """#!/bin/sh
size=$(wc -c <"${1#--graph=}")
echo "count=20 first=$size curr=$size min=$size max=$((size + 9)) avg=$((size + $$ % 5)) std=3"
echo "Inference timings in us: Init: 812, First inference: $size, Warmup (avg): 1, Inference (avg): $size"
echo "Memory footprint delta from the start of the tool (MB): init=1 overall=2"
"""


def test_what_is_shown_and_judged_of_a_native_runner(bundle: Artifact, tmp_path: Path) -> None:
    out, program = bundle.path.parents[1], tmp_path / "benchmark_model"
    program.write_text(BY_SIZE)
    given = ["--target", "local", "--runner", str(program), "--pairs", "6"]
    done = CliRunner().invoke(cli, ["bench", str(bundle.path), *given, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    sizes = [bundle.size_bytes, Artifact.load(bundle.path.parent / "dense").size_bytes]
    for side, size in zip((found, found["against"]), sizes):
        low, high = side["mean_interval_ns"]
        assert size * 1000 <= low <= side["mean_ns"] <= high <= (size + 4) * 1000
        assert (side["init_ns"], side["peak_memory_bytes"], side["inferences"]) == (812_000, 2**21, 120)
    ratio = found["ratio"]
    assert ratio["verdict"] == "faster" and ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["value"] == pytest.approx(sizes[1] / sizes[0], rel=5e-3)
    assert found["noise_floor"]["pairs"] == 3

    shown = CliRunner().invoke(cli, ["inspect", found["path"]])
    words = " ".join(shown.output.split())
    assert f"litert fp32 (local): benchmark_model, SHA-256 {sha256(program)[:12]}" in words
    assert "Model load 812 µs" in words and "Growth of peak memory 2.10 MB" in words
    page = CliRunner().invoke(cli, ["report", found["path"], "--out", str(out)])
    assert page.exit_code == 0, page.output
    assert "as fast as the dense twin" in page.stderr and "Not measured yet" not in page.stderr
    html = Path(page.stdout.strip()).read_text()
    assert "<h2>Native runner</h2>" in html and f"--runner {program}" in html

    judge = ["gate", found["path"], "--out", str(out), "--budget"]
    assert CliRunner().invoke(cli, [*judge, "speedup=2x,size=1MB"]).exit_code == 0
    assert CliRunner().invoke(cli, [*judge, "speedup=1000x"]).exit_code == 1
    refused = CliRunner().invoke(cli, [*judge, "latency_p90=10ms"])
    assert isinstance(refused.exception, MeasurementError) and "no samples" in str(refused.exception)


def test_several_phones_give_one_table(bundle: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runner").write_text(BY_SIZE)
    request = Request(bundle, None, load_target("local"), replace(PLAN, pairs=1), tmp_path, tmp_path / "runner")
    devices = {"one": local.connect, "another": lambda: Other(sys.executable)}
    measured = {
        each.host: each.event for each in bench_devices(request, devices) if isinstance(each.event, Measurement)
    }
    print_devices(measured, [], Console(width=100))
    said = capsys.readouterr().out
    assert "Device" in said and "one " in said and "another" in said and "not compared" in said


class Other(local.LocalConnection):
    """Another device than this one, as far as a journal can tell."""

    host = "another"


def test_a_governor_that_is_not_or_cannot_be_read_as_asked_for_is_unfair(bundle: Artifact, tmp_path: Path) -> None:
    (tmp_path / "runner").write_text(BY_SIZE)
    target = replace(load_target("local"), governor="of no device")
    request = Request(bundle, None, target, replace(PLAN, pairs=1), tmp_path, tmp_path / "runner")
    with local.connect() as here, pytest.raises(UnfairConditionsError, match="measured with the governor of no device"):
        list(bench_blocks(request, here))


def test_onnx_bundles_and_options_of_the_agent_are_refused(runner: Path, tmp_path: Path) -> None:
    artifact = make_bundle(tmp_path / "artifacts" / "onnx", "onnxruntime")
    command = ["bench", str(artifact.path), "--target", "local", "--runner", str(runner), "--out", str(tmp_path)]
    refused = CliRunner().invoke(cli, command)
    assert isinstance(refused.exception, MeasurementError) and "export --runtime litert" in str(refused.exception)
    for option in (["--emulate"], ["--python", "python3"], ["--sustained", "1s"]):
        assert CliRunner().invoke(cli, [*command, *option]).exit_code == 2
    missing = CliRunner().invoke(cli, [*command[:-4], "--runner", str(tmp_path / "nothing")])
    assert missing.exit_code == 2 and "does not exist" in missing.output


THROTTLED = """#!/bin/sh
count=$(cat {count} 2>/dev/null || echo 0)
echo $((count + 1)) > {count}
[ $count -lt 3 ] && status=0 || status=3
echo "IsStatusOverride: false"
echo "Thermal Status: $status"
echo "Current temperatures from HAL:"
echo "	Temperature{{mValue=35.5, mType=3, mName=skin, mStatus=0}}"
"""


def test_a_run_in_which_the_phone_is_throttled_is_repeated(
    bundle: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "dumpsys").write_text(THROTTLED.format(count=tmp_path / "count"))
    (tools / "dumpsys").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    (tmp_path / "runner").write_text(f"#!/bin/sh\ncat <<'END'\n{NEWEST}END\n")
    target = replace(load_target("android-arm64"), connection="local")
    plan = replace(PLAN, pairs=1)
    with local.connect() as here:
        *_, measured = bench_blocks(Request(bundle, None, target, plan, tmp_path, tmp_path / "runner"), here)
    assert isinstance(measured, Aggregated)
    # Read before the run, while it cools, before and after each: the second reading of the first run is the fourth.
    assert ["throttling: thermalservice 0x0 -> 0x3" in note for note in measured.notes] == [True]
    (run,) = measured.native
    assert run.conditions_after["throttling.thermalservice"] == 3
    assert run.conditions_after["temp_millic.thermalservice.skin"] == 35500
    assert any("throttled in 1 of 1 blocks" in line for line in warnings(measured))


def test_a_phone_has_one_user_at_a_time(phone: AdbServer, connection: Connection) -> None:
    with pytest.raises(DeviceError, match="is taken: "):
        connect(phone.serial)
    connection.close()
    connect(phone.serial).close()


def test_another_kind_of_model_is_refused(connection: Connection, runner: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(DeviceError, match=r"takes \.tflite models, model\.onnx is none; export with --runtime litert"):
        run_native(connection, runner, tmp_path / "model.onnx", 1, PLAN)


def test_a_runner_for_another_processor_says_so(
    connection: Connection, runner: Path, model: Path, tmp_path: Path
) -> None:
    other, program = tmp_path / "benchmark_model", bytearray(runner.read_bytes())
    program[18:20] = b"\x08\x00"  # e_machine: MIPS, which no kernel here runs
    other.write_bytes(program)
    with pytest.raises(DeviceError, match="benchmark_model does not run on the device: .*android_arm64"):
        run_native(connection, other, model, 1, PLAN)


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("echo INFO: STARTING!", "printed no timings: its last line is 'INFO: STARTING!'.*benchmark_model"),
        (":", "printed no timings: it printed nothing"),
        ("echo ERROR: Failed to load model >&2; exit 1", "exit status 1: ERROR: Failed to load model"),
        ("kill -9 $$", "killed on the device, which most likely ran out of memory"),
    ],
)
def test_a_runner_that_fails_is_an_error(model: Path, tmp_path: Path, code: str, match: str) -> None:
    (tmp_path / "runner").write_text(f"#!/bin/sh\n{code}\n")
    with local.connect() as here, pytest.raises(DeviceError, match=match) as caught:
        run_native(here, tmp_path / "runner", model, 1, PLAN)
    assert not isinstance(caught.value, DeviceTransientError)


def test_a_runner_that_hangs_is_ended(model: Path, tmp_path: Path) -> None:
    (tmp_path / "runner").write_text("#!/bin/sh\nsleep 1000\n")
    plan = Plan(seed=0, seconds=0.1, limit_seconds=0.2, timeout_seconds=1.0)
    with local.connect() as here, pytest.raises(DeviceTransientError, match="did not end within"):
        run_native(here, tmp_path / "runner", model, 1, plan)


def test_a_file_that_arrives_changed_is_noticed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        shutil, "copyfile", lambda source, there: Path(there).write_bytes(Path(source).read_bytes()[1:])
    )
    (tmp_path / "runner").write_text("#!/bin/sh\n")
    with local.connect() as here, pytest.raises(DeviceError, match="another file on the device: SHA-256 .*expected"):
        run_native(here, tmp_path / "runner", model, 1, PLAN)


def test_the_plan_reaches_the_runner(model: Path, tmp_path: Path) -> None:
    (tmp_path / "runner").write_text('#!/bin/sh\necho "$*"\n')
    with local.connect() as here, pytest.raises(DeviceError) as caught:
        run_native(here, tmp_path / "runner", model, 3, PLAN)
    assert (
        "--graph=artifact.tflite --num_threads=3 --warmup_runs=5 --warmup_min_secs=0 --num_runs=20 --min_secs=0.0 "
        "--max_secs=30.0 --use_xnnpack=true" in caught.value.message
    )


# As printed by the tool's versions of 2020, 2022 and 2025.
NEWEST = """INFO: Initialized session in 87.639ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=106436 curr=105929 min=105929 max=106436 avg=106065 std=193 p5=105929 median=105948 p95=106436

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=106022 curr=105780 min=105416 max=106528 avg=105784 std=260 p5=105485 median=105718 p95=106281

INFO: Inference timings in us: Init: 87639, First inference: 106436, Warmup (avg): 106065, Inference (avg): 105784
INFO: Memory footprint delta from the start of the tool (MB): init=14.4414 overall=14.8164
"""
OLDER = """Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
SAME = """INFO: count=0

INFO: count=3 curr=7(all same)

INFO: Inference timings in us: Init: 12, First inference: 0, Warmup (avg): nan, Inference (avg): 7
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NEWEST, (50, 105416000, 106528000, 105784000, 260000, 87639000, 106436000, 15536121)),
        (OLDER, (50, 2727568000, 3189954000, 2950340000, 109798000, 17187000, 3512391000, 145551786)),
        (SAME, (3, 7000, 7000, 7000, 0, 12000, 0, None)),
    ],
    ids=["newest", "older", "all the same"],
)
def test_what_the_tool_prints_is_read(text: str, expected: tuple[int, ...]) -> None:
    found = parse(text, "benchmark_model", "against", "m")
    assert tuple(asdict(found).values()) == ("against", *expected, "m", {}, {}, 0.0)


@pytest.mark.parametrize("text", [NEWEST.replace(" min=", " "), NEWEST.replace("std=", "")], ids=["min", "std"])
def test_timings_with_holes_are_none(text: str) -> None:
    with pytest.raises(DeviceError, match="printed timings without"):
        parse(text, "benchmark_model", "artifact", "m")


def test_only_warmups_are_no_timings() -> None:
    text = NEWEST.replace("INFO: count=50", "INFO: count=0")
    with pytest.raises(DeviceError, match="printed no timings"):
        parse(text, "benchmark_model", "artifact", "m")
