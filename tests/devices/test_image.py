"""Dockerfile.arm64 is device_setup and little else: what the tests run on the emulated Pi is what the image holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import edgeprune
from edgeprune.device.parcel import parcel

ROOT = Path(edgeprune.__file__).parents[1]
# (instruction, its arguments), with lines that go on joined.
TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile.arm64").read_text())
STEPS = [tuple(line.split(" ", 1)) for line in TEXT.splitlines() if line and not line.startswith("#")]
STARTS = [place for place, (name, _) in enumerate(STEPS) if name == "FROM"]
SETUP, IMAGE = STEPS[STARTS[0] : STARTS[1]], STEPS[STARTS[1] :]
SCRIPT = "sh /home/edgeprune/device_setup"


def of(steps: list[tuple[str, ...]], name: str) -> list[str]:
    return [arguments for each, arguments in steps if each == name]


def copied(steps: list[tuple[str, ...]]) -> list[str]:
    """What is copied from the checkout."""
    return [source for line in of(steps, "COPY") if "--from" not in line for source in line.split()[:-1]]


def test_both_stages_are_the_system_that_the_emulated_device_is() -> None:
    packages = (ROOT / "scripts" / "arm64_packages.sh").read_text()
    release = re.search(r"^release=(\w+)$", packages, re.MULTILINE)
    assert release
    for line in of(STEPS, "FROM"):
        assert line.split()[:2] == ["--platform=linux/arm64", f"debian:{release[1]}-slim"]


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    sources = copied(STEPS)
    assert set(sources) == {"scripts/device_setup", "device-requirements.txt", "edgeprune/device"}
    assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / "Dockerfile.arm64.dockerignore").read_text().split()
    assert ignored == ["*", *(f"!{source}" for source in sources)]


def test_the_environment_is_made_by_device_setup_alone() -> None:
    runs = of(STEPS, "RUN")
    assert [line for line in runs if line.startswith(f"{SCRIPT} &&")]
    for line in runs:
        assert "pip install" not in line
    after = SETUP[[name for name, _ in SETUP].index("USER") :]
    assert [line for line in of(after, "RUN") if line.startswith(SCRIPT)], "it needs no root, so it gets none"
    assert of(IMAGE, "COPY")[0].split()[2:] == ["/home/edgeprune/.edgeprune"] * 2


def test_nothing_to_build_with_is_left() -> None:
    assert "pip uninstall --yes setuptools pip" in of(SETUP, "RUN")[-1]
    installed = [line for line in of(IMAGE, "RUN") if "apt-get install" in line]
    assert [line.split("--no-install-recommends ")[1].split(" && ")[0] for line in installed] == ["python3"]


def test_the_agent_runs_as_a_user_without_rights() -> None:
    assert of(IMAGE, "USER") == ["edgeprune"]
    assert [name for name, _ in IMAGE].index("USER") < [name for name, _ in IMAGE].index("ENTRYPOINT")
    python, agent = json.loads(of(IMAGE, "ENTRYPOINT")[0])
    assert python == "/home/edgeprune/.edgeprune/venv/bin/python"
    assert [line.split()[2:] for line in of(IMAGE, "COPY")][-1] == [agent, agent]
    made = of(SETUP, "RUN")[-1]
    assert "cd /home/edgeprune/agent && python3 -c " in made and agent == "/home/edgeprune/agent.pyz"
    code = made.split('python3 -c "')[1].split('"')[0]
    assert code == "from device.parcel import parcel; open('../agent.pyz', 'wb').write(parcel())"


def test_the_image_has_the_very_file_that_bench_sends(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    shutil.copytree(ROOT / "edgeprune" / "device", tmp_path / "agent" / "device")
    code = of(SETUP, "RUN")[-1].split('python3 -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "agent", check=True)
    assert (tmp_path / "agent.pyz").read_bytes() == parcel()
    assert json.loads(of(IMAGE, "CMD")[0]) == ["job.json"]
