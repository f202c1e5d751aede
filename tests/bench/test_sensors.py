"""The agent's sensors on boards that are laid out from what the real tools print (see recorded/README.md)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from edgeprune.artifact import Artifact
from edgeprune.bench import Plan
from edgeprune.bench.block import Bundle, make_job, push_agent, run_block
from edgeprune.connections.local import connect
from edgeprune.device import sensors as device_sensors
from edgeprune.device import system
from edgeprune.device.power import PowerSampler
from edgeprune.energy import energy
from edgeprune.measurement import Measurement, Timed

RECORDED = Path(__file__).parent / "recorded"
BATTERY = {"type": "Battery", "status": "Discharging", "current_now": -412000, "voltage_now": 4012000}


class Board:
    """A root folder that looks like a device's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, content: Any) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{content}\n")

    def sysfs(self, name: str) -> None:
        """Lay out a recorded tree."""
        for line in (RECORDED / f"{name}.sysfs.txt").read_text().splitlines():
            path, _, content = line.partition("=")
            self.file(path, content)

    def program(self, name: str, answers: dict[str, str], folder: str = "usr/bin") -> None:
        """A program that prints a recorded file, or `text` for "=text", for its arguments; else it fails."""
        cases = []
        for arguments, answer in answers.items():
            text = answer[1:] if answer.startswith("=") else (RECORDED / f"{answer}.txt").read_text()
            cases.append(f"'{arguments}') cat <<'END'\n{text}\nEND\n;;")
        lines = ["#!/bin/sh", 'case "$*" in', *cases, "*) echo error=1; exit 255;;", "esac", ""]
        self.file(f"{folder}/{name}", "\n".join(lines))
        (self.root / folder / name).chmod(0o755)

    def read(self, *sensors: str) -> dict[str, Any]:
        return device_sensors.read_conditions(list(sensors), self.root)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def pi5(board: Board) -> Board:
    """A Raspberry Pi 5, without its /sys."""
    answers = ("get_throttled", "measure_temp", "pmic_read_adc")
    board.program("vcgencmd", {name: f"vcgencmd_{name}" for name in answers})
    return board


def test_a_board_without_sensors_says_so(board: Board) -> None:
    found = board.read("throttling", "power", "temperature")
    assert found == {"throttling": "absent", "power_uw": "absent", "temp_millic": "absent"}


def test_what_may_not_be_listed_is_unreadable_not_absent(board: Board) -> None:
    """As on a phone whose rules hide /sys from programs. (Nothing is hidden from root, so the test lays that off.)"""
    board.file("sys/class/thermal/thermal_zone0/temp", 51000)
    board.file("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", 1800000)
    hidden = [board.root / folder for folder in ("sys/class/thermal", device_sensors.CPUFREQ)]
    user = os.geteuid()
    for folder in hidden:
        folder.chmod(0)
    try:
        os.seteuid(user or 65534)
        found = board.read("temperature", "throttling", "frequency", "governor")
    finally:
        os.seteuid(user)
        for folder in hidden:
            folder.chmod(0o755)
    names = ("temp_millic", "throttling", "frequency_khz", "frequency_max_khz", "governor")
    assert found == dict.fromkeys(names, "unreadable")


def test_a_raspberry_pi_tells_throttling_and_temperature(pi5: Board) -> None:
    pi5.file("sys/class/thermal/cooling_device0/type", "pwm-fan")
    pi5.file("sys/class/thermal/cooling_device0/cur_state", 3)
    assert pi5.read("throttling") == {"throttling.vcgencmd": 0x50000}
    assert pi5.read("temperature") == {"temp_millic.vcgencmd": 39500}


def test_a_raspberry_pi_5_tells_the_power_of_its_rails(pi5: Board) -> None:
    found = pi5.read("power")
    rails = {name for name in found if name.startswith("power_uw.")}
    assert len(rails) == 12 and not rails & {"power_uw.EXT5V", "power_uw.BATT"}, "no current, no power"
    assert found["power_uw.VDD_CORE"] == round(10.87674 * 0.8974594 * 1e6)
    assert found["power_uw"] == sum(found[rail] for rail in rails) == pytest.approx(10.88e6, rel=0.01)
    assert found["power_of"] == "the sum of 12 rails"


def test_vcgencmd_is_found_where_older_systems_have_it(board: Board) -> None:
    board.program("vcgencmd", {"get_throttled": "=throttled=0x0"}, folder="opt/vc/bin")
    assert board.read("throttling") == {"throttling.vcgencmd": 0}


@pytest.mark.parametrize("answer", ["=throttled=", "=VCHI initialization failed", "="])
def test_an_answer_that_means_nothing_is_unreadable(board: Board, answer: str) -> None:
    board.program("vcgencmd", dict.fromkeys(("get_throttled", "measure_temp", "pmic_read_adc"), answer))
    assert set(board.read("throttling", "temperature").values()) == {"unreadable"}
    assert board.read("power")["power_uw"] == "unreadable"


def test_a_program_that_fails_or_hangs_is_unreadable(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.program("vcgencmd", {})
    assert board.read("throttling") == {"throttling.vcgencmd": "unreadable"}
    (board.root / "usr/bin/vcgencmd").write_text("#!/bin/sh\necho throttled=0x0\nexit 1\n")
    assert board.read("throttling") == {"throttling.vcgencmd": "unreadable"}
    monkeypatch.setattr(system, "COMMAND_SECONDS", 0.05)
    (board.root / "usr/bin/vcgencmd").write_text("#!/bin/sh\nexec sleep 60\n")
    assert board.read("throttling") == {"throttling.vcgencmd": "unreadable"}


def test_android_tells_status_and_temperatures(board: Board) -> None:
    board.program("dumpsys", {"thermalservice": "dumpsys_thermalservice"}, folder="system/bin")
    assert board.read("throttling") == {"throttling.thermalservice": 0}
    found = board.read("temperature")
    assert found["temp_millic.thermalservice.AP"] == 25600 and found["temp_millic.thermalservice.LRB"] == 24700
    assert len(found) == 9


def test_android_s_cached_temperatures_and_other_quantities_are_left_out(board: Board) -> None:
    lines = [
        "Thermal Status: 3",
        "Cached temperatures:",
        "\tTemperature{mValue=80.0, mType=0, mName=CPU, mStatus=3}",
        "\tTemperature{mValue=90.0, mType=3, mName=gone, mStatus=4}",
        "Current temperatures from HAL:",
        "\tTemperature{mValue=61.0, mType=0, mName=CPU, mStatus=0}",
        "\tTemperature{mValue=4012.0, mType=6, mName=vbat, mStatus=0}",
        "\tTemperature{mValue=-5700.0, mType=-1, mName=virtual, mStatus=0}",
    ]
    board.program("dumpsys", {"thermalservice": "=" + "\n".join(lines)}, folder="system/bin")
    assert board.read("temperature") == {"temp_millic.thermalservice.CPU": 61000}
    assert board.read("throttling") == {"throttling.thermalservice": 3}


def test_a_jetson_orin_nano_tells_events_steps_and_rails(board: Board) -> None:
    board.sysfs("jetson_orin_nano")
    assert board.read("throttling") == {
        "throttling.cooling_device1.thermal-cpufreq-0": 0,
        "throttling.hwmon3.oc1_event_cnt": 0,
        "throttling.hwmon3.oc2_event_cnt": 15,
        "throttling.hwmon3.oc3_event_cnt": 37,
    }
    assert board.read("power") == {
        "power_uw.VDD_IN": 5016 * 1520,
        "power_uw.VDD_CPU_GPU_CV": 5016 * 448,
        "power_uw.VDD_SOC": 5016 * 472,
        "power_uw": 5016 * 1520,
        "power_of": "VDD_IN",
    }


def test_a_rail_inside_another_is_not_counted_twice(board: Board) -> None:
    board.sysfs("jetson_agx_orin")
    found = board.read("power")
    assert found["power_uw.VDDQ_VDD2_1V8AO"] == 4968 * 80
    assert found["power_uw"] == 4968 * (760 + 360 + 953)
    assert found["power_of"] == "the sum of 3 rails"


def test_a_jetson_nano_tells_what_tegrastats_tells(board: Board) -> None:
    board.sysfs("jetson_nano")
    found = board.read("power")
    line = (RECORDED / "jetson_nano.tegrastats.txt").read_text()
    for rail, now in re.findall(r"(POM_\w+) (\d+)/\d+", line):
        assert found[f"power_uw.{rail}"] == int(now) * 1000
    assert (found["power_uw"], found["power_of"]) == (1_022_000, "POM_5V_IN")


def test_a_rail_that_is_switched_off_is_none_and_one_that_fails_leaves_no_sum(board: Board) -> None:
    board.sysfs("jetson_agx_orin")
    board.file("sys/class/hwmon/hwmon3/in1_enable", 0)
    assert board.read("power")["power_uw"] == 4968 * (360 + 953)
    (board.root / "sys/class/hwmon/hwmon3/curr2_input").unlink()
    found = board.read("power")
    assert found["power_uw.VDD_CPU_CV"] == found["power_uw"] == "unreadable"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_battery_that_discharges_tells_what_the_device_takes(board: Board, sign: int) -> None:
    for name, content in {**BATTERY, "current_now": sign * 412000}.items():
        board.file(f"sys/class/power_supply/battery/{name}", content)
    assert board.read("power")["power_uw"] == 412000 * 4012000 // 1_000_000


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_on_a_charger_tells_nothing_of_the_device(board: Board, status: str) -> None:
    for name, content in {**BATTERY, "status": status}.items():
        board.file(f"sys/class/power_supply/battery/{name}", content)
    assert board.read("power")["power_uw"] == "unreadable"


def test_a_phone_that_hides_its_files_is_asked_through_its_service(board: Board) -> None:
    text = (RECORDED / "dumpsys_battery.txt").read_text()
    board.program("dumpsys", {"battery": "dumpsys_battery"}, folder="system/bin")
    board.program("cmd", {"battery get current_now": "=-321000"}, folder="system/bin")
    assert board.read("power")["power_uw"] == "unreadable", "it is charging"
    board.program("dumpsys", {"battery": "=" + text.replace("status: 2", "status: 3")}, folder="system/bin")
    assert board.read("power")["power_uw"] == 321 * 4063
    (board.root / "system/bin/cmd").unlink()
    assert board.read("power")["power_uw"] == "unreadable", "before Android 15 the service gives no current"


def test_the_power_of_a_phase_is_sampled_and_the_cost_stated(board: Board) -> None:
    board.sysfs("jetson_orin_nano")
    power = PowerSampler(["power"], board.root)
    before = time.monotonic_ns()
    with power.phase("idle"):
        while len(power.samples_uw["idle"]) < 3:
            time.sleep(0.01)
    with power.phase("steady"):
        pass
    after = time.monotonic_ns()
    assert len(power.samples_uw["idle"]) >= 3 and len(power.samples_uw["steady"]) >= 1
    times = [when for samples in power.samples_uw.values() for when, _ in samples]
    assert times == sorted(times) and before < times[0] and times[-1] < after
    assert times[1] - times[0] >= 100_000_000, "ten a second at most"
    assert {value for samples in power.samples_uw.values() for _, value in samples} == {5016 * 1520}
    assert power.cost()["power_reading_ns"] > 0


def test_a_reading_that_takes_long_is_taken_seldom(board: Board) -> None:
    """A program that answers after 10 ms is started twice a second at most: it runs beside the model."""
    board.program("vcgencmd", {"pmic_read_adc": "vcgencmd_pmic_read_adc"})
    script = board.root / "usr/bin/vcgencmd"
    script.write_text(script.read_text().replace("#!/bin/sh", "#!/bin/sh\nsleep 0.01"))
    power = PowerSampler(["power"], board.root)
    with power.phase("steady"):
        while len(power.samples_uw["steady"]) < 2:
            time.sleep(0.01)
    (first, _), (second, _) = power.samples_uw["steady"][:2]
    assert second - first >= 50 * power.costs_ns[0] >= 500_000_000


@pytest.mark.parametrize("sensors", [[], ["power"]])
def test_nothing_is_sampled_where_nothing_can_be(board: Board, sensors: list[str]) -> None:
    power = PowerSampler(sensors, board.root)
    with power.phase("idle"):
        pass
    assert (power.there, power.samples_uw, power.cost()) == (False, {}, {})


def test_the_agent_reads_conditions_alone() -> None:
    command = [sys.executable, "-m", "edgeprune.device", "conditions", "load", "power", "smell"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["smell"] == "unreadable" and "load_1m" in found and "power_uw" in found


def test_windows_and_power_come_back_with_the_block(
    tmp_path: Path, bundle: Callable[..., Artifact], short_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the agent on its device through a file to what reads it: nothing is lost on the way."""
    board, artifact = Board(tmp_path / "board"), bundle()
    board.program("vcgencmd", {"pmic_read_adc": "vcgencmd_pmic_read_adc", "get_throttled": "=throttled=0x0"})
    monkeypatch.setenv("PATH", f"{board.root}/usr/bin:{os.environ['PATH']}")
    side = Bundle("artifact", artifact)
    job = make_job(side, 1, ("power", "throttling"), short_plan, "1")
    with connect() as connection:
        push_agent(connection)
        side.push(connection)
        block, environment = run_block(side, replace(job, sustained_seconds=0.1, window_seconds=0.0), connection, 60.0)
    assert len(block.samples_ns) == short_plan.samples and len(block.windows) > 1
    assert list(block.power_uw) == ["idle", "steady", "sustained"]
    needed = [each for each in fields(Timed) if each.default is each.default_factory is MISSING]
    filled = {each.name: 1 if each.type == "int" else "x" for each in needed}
    given = {"path": tmp_path / "m.json", "environment": environment, "blocks": (block,)}
    measurement = Timed(**{**filled, **given})
    measurement.save()
    assert Measurement.load(measurement.path) == measurement
    found = energy([block])
    assert found is not None and found.phase == "sustained"
    assert found.power_uw == block.conditions_before["power_uw"]
