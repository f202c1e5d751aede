"""The commands of a report are run as they stand, from another folder, and make the same things again."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgeprune import Artifact, Measurement
from edgeprune.cli import cli
from edgeprune.report import collect
from edgeprune.report.commands import make_again

TINY = Path(__file__).parents[1] / "find" / "tiny_task.py"
TARGETS = Path(__file__).parents[2] / "targets"


def run(words: list[str]) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def run_line(line: str) -> str:
    words = shlex.split(line)
    if words[0] == "cd":
        os.chdir(words[1])
        return ""
    assert words[0] == "edgeprune"
    return run(words[1:])


def test_the_commands_work_as_they_stand(tmp_path, monkeypatch):
    """A task file, a target file, data and results in folders of their own, one cell of four, a small bench."""
    home = tmp_path / "my work"
    (home / "data").mkdir(parents=True)
    (home / "tasks").mkdir()
    shutil.copy(TINY, home / "tasks" / "tiny task.py")
    shutil.copy(TARGETS / "local.toml", home / "mine.toml")
    monkeypatch.chdir(home)
    out = ["--out", "my results"]
    run(["find", "tasks/tiny task.py:make", "--seeds", "1", "--levels", "1", "--density", "0.4", "--margin", "2",
         "--data-dir", "data", *out])  # fmt: skip
    cell = ["--target", "./mine.toml", "--runtime", "onnxruntime", "--precision", "int8", "--max-drop", "60"]
    bundle = Artifact.load(Path(run(["export", *cell, "--data-dir", "data", *out])))
    first = Measurement.load(Path(run(["bench", "--target", "./mine.toml", "--pairs", "1", "--order-seed", "7", *out])))
    assert run(["gate", "--budget", "size=1MB", *out]) == ""  # the target is a file that only the measurement knows
    monkeypatch.chdir(tmp_path)
    results = home / "my results"
    lines = make_again(collect([], results))
    model = bundle.files[bundle.model_file]
    shutil.rmtree(results / "artifacts")
    shutil.rmtree(results / "measurements")
    for line in lines:
        run_line(line)
    (again,) = (Artifact.load(path.parent) for path in results.glob("artifacts/*int8/manifest.json"))
    assert again.files[again.model_file] == model and again.options == bundle.options
    (second,) = (Measurement.load(path) for path in results.glob("measurements/*.json"))
    assert second.plan == first.plan and second.asked == first.asked
    # The find command gives the very ticket, and no other one.
    (ticket,) = (path.parent for path in results.glob("tickets/*/ticket.json"))
    assert (results / "reports" / f"{ticket.name}.html").is_file()
    assert lines == make_again(collect([], results))


def test_a_whole_target_is_one_command_and_portable_bundles_are_asked_for(tmp_path, make, build_at):
    cells = tuple((runtime, precision) for runtime in ("litert", "onnxruntime") for precision in ("fp32", "int8"))
    made = build_at(tmp_path, cells, measured=False)
    (line,) = (line for line in make_again(collect([], tmp_path)) if " export " in line)
    assert "--target rpi4 --seed" in line and "--max-drop 1 --out" in line and "--runtime" not in line
    for artifact in made.artifacts:
        replace(artifact, options={**artifact.options, "portable": True, "data_dir": str(tmp_path)}).save()
    (line,) = (line for line in make_again(collect([], tmp_path)) if " export " in line)
    assert f"--max-drop 1 --data-dir {tmp_path} --portable --out" in line


def test_every_option_that_changes_a_result_is_known_here():
    """A new option of find, export or bench has to be kept and written again, or be named here as changing nothing."""
    known = {
        "find": "target pattern levels rates density revive rewind seeds margin threads data_dir export_later",
        "export": "ticket target runtime precision seed max_drop portable data_dir measure",
        "bench": "target hosts python against pairs seed runner emulate "
        "sustained_seconds spread_seconds allow_governor",
    }
    for name, options in known.items():
        found = {each.name for each in cli.commands[name].params if isinstance(each, click.Option)}
        assert found - {"out", "as_json"} <= set(options.split()), f"{name} has options that a report does not know"


@pytest.mark.parametrize(
    ("asked", "plan", "words"),
    [
        (
            {"host": "pi@pi"},
            {"pairs": 32, "seed": 1},
            "--target rpi4 --host pi@pi --pairs 32 --order-seed 1",
        ),
        ({}, {"pairs": 2}, "--target rpi4 --pairs 2"),
        ({"python": "/opt/py"}, {"allow_governor": True}, "--target rpi4 --python /opt/py --allow-governor"),
        ({"against": "/a/b"}, {"sustained_seconds": 90.0}, "--target rpi4 --against /a/b --sustained 90s"),
        ({}, {"spread_seconds": 3600.0, "sustained_seconds": 0.0}, "--target rpi4 --spread 3600s"),
        ({"target": "/t/my pi.toml"}, {"pairs": 2}, "--target '/t/my pi.toml' --pairs 2"),
    ],
)
def test_a_bench_keeps_what_it_was_asked_for(built, asked, plan, words):
    measurement = replace(built.measurements[0], asked=asked, plan=plan)
    nouns = replace(collect([], built.out), measurements=(measurement,))
    (line,) = (line for line in make_again(nouns) if " bench " in line)
    assert line == f"edgeprune bench {measurement.artifact_path} {words} --out {built.out}"
