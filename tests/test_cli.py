"""The command line: bad input gives one line and exit code 2, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeprune import Artifact, Ticket, store
from edgeprune.cli import cli, main

TINY = Path(__file__).parent / "find" / "tiny_task.py"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in a folder of its own; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["edgeprune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        output = capsys.readouterr()
        return stop.value.code, output.out, output.err

    return command


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """An output folder with a ticket of the tiny task and its bundles for the local target."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(TINY, folder / "tiny_task.py")
    for command in (["find", "tiny_task.py:make", "--levels", "2", "--seeds", "1"], ["export", "--target", "local"]):
        subprocess.run([sys.executable, "-m", "edgeprune", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy of `made` to spoil."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def one_line(err):
    lines = [line for line in err.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["find", "digitz"], ["digitz", "did you mean digits"]),
        (["find", "nowhere.py:make"], ["nowhere.py"]),
        (["find", "nowhere.module:make"], ["nowhere"]),
        (["find", "digits", "--pattern", "block:4x2"], ["block:4x2", "block:4x1"]),
        (["find", "digits", "--pattern", "unstructurd"], ["did you mean unstructured"]),
        (["find", "digits", "--target", "rpi44"], ["rpi44", "did you mean rpi4"]),
        (["find", "digits", "--density", "1.5"], ["density", "1.5", "between 0 and 1"]),
        (["find", "digits", "--rate", "0"], ["rate", "between 0 and 1"]),
        (["find", "digits", "--rate", "a,b"], ["a,b"]),
        (["find", "digits", "--levels", "2", "--rate", "0.2", "--density", "0.1"], ["leave one out"]),
        (["find", "digits", "--rewind", "later"], ["later", "N-steps"]),
        (["find", "digits", "--rewind", "100000-steps"], ["100000"]),
        (["find", "digits", "--seeds", "1,1"], ["distinct"]),
        (["find", "digits", "--pattern", "2:4", "--density", "0.1"], ["2:4", "0.5"]),
        (["find", "digits", "--data-dir", "nowhere"], ["nowhere"]),
        (["export", "--target", "rpi4"], ["no ticket", "edgeprune find digits"]),
        (["export", "nowhere", "--target", "rpi4"], ["nowhere"]),
        (["export", "--target", "./mine.toml"], ["mine.toml"]),
        (["bench"], ["no artifact", "edgeprune export"]),
        (["bench", "nowhere"], ["nowhere"]),
        (["report"], ["no ticket"]),
        (["inspect", "nowhere"], ["nowhere"]),
        (["bench", "--sustained", "nans"], ["nans", "10m"]),
        (["bench", "--sustained", "infs"], ["infs", "10m"]),
        (["bench", "--sustained", "-1s"], ["-1s", "10m"]),
        (["bench", "--sustained", "0s"], ["0s", "720h"]),
        (["bench", "--sustained", "10"], ["10", "10m"]),
        (["bench", "--sustained", ""], ["10m"]),
        (["bench", "--sustained", f"{'9' * 400}h"], ["720h"]),
        (["bench", "--pairs", "0"], ["0"]),
        (["bench", "--pairs", "nan"], ["nan"]),
        (["find", "digits", "--density", "nan"], ["nan"]),
        (["find", "digits", "--density", "inf"], ["inf"]),
        (["find", "digits", "--density", "-0.1"], ["density", "-0.1"]),
        (["find", "digits", "--rate", "0.2,nan"], ["nan"]),
        (["find", "digits", "--rate", "-0.2"], ["rate", "-0.2"]),
        (["find", "digits", "--margin", "nan"], ["nan", "margin"]),
        (["find", "digits", "--margin", "-1"], ["-1", "0 or more"]),
        (["find", "digits", "--levels", "0"], ["0", "levels"]),
        (["find", "digits", "--levels", "-3"], ["-3", "levels"]),
        (["find", "digits", "--threads", "0"], ["0", "threads"]),
        (["find", "digits", "--seeds", ""], ["seeds"]),
        (["export", "--target", "local", "--max-drop", "nan"], ["nan", "max-drop"]),
        (["export", "--target", "local", "--max-drop", "inf"], ["inf"]),
        (["export", "--target", "local", "--max-drop", "-1"], ["-1", "0 or more"]),
        (["export", "--target", "local", "--seed", "x"], ["x"]),
        (["gate", "--budget", "latency_p90=nanms"], ["no measurement"]),
        (["fnd", "digits"], ["fnd"]),
        (["find"], ["TASK"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments, words):
    code, out, err = run(*arguments)
    line = one_line(err)
    assert code == 2 and out == ""
    for word in words:
        assert word in line
    assert not list(Path.cwd().rglob("ticket.json"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_of_this_name\n", ["nothing_of_this_name"]),
        ("def make(:\n", ["broken.py"]),
        ("def make():\n    return 3\n", ["Task"]),
        ("def mak():\n    return 3\n", ["make", "mak"]),
        ("def make():\n    raise RuntimeError('no luck')\n", ["no luck"]),
        (TINY.read_text().replace("nn.Linear(12, 32)", "nn.Linear(13, 32)"), ["tiny"]),
        (TINY.read_text().replace("return float((outputs", "return float('nan') * float((outputs"), ["nan"]),
    ],
)
def test_a_broken_task_file_is_one_line(run, source, words):
    Path("broken.py").write_text(source)
    code, out, err = run("find", "broken.py:make", "--levels", "1", "--seeds", "1")
    line = one_line(err)
    assert code == 2 and out == ""
    for word in words:
        assert word in line


def test_a_diverging_loss_names_the_step(run):
    code, _, err = run("find", f"{TINY}:diverging", "--levels", "1", "--seeds", "1")
    assert code == 2 and "step" in one_line(err)


def find_noun(folder, kind):
    return store.newest(folder / "edgeprune-out", kind, store.EdgepruneError)


@pytest.mark.parametrize("spoil", ["truncate", "edit", "newer", "weights", "missing"])
def test_a_damaged_ticket_is_refused_by_every_reader(run, copy, spoil):
    folder = find_noun(copy, "ticket")
    file = folder / "ticket.json"
    text = file.read_text()
    if spoil == "truncate":
        file.write_text(text[: len(text) // 2])
    elif spoil == "edit":
        file.write_text(text.replace('"margin": 0.005', '"margin": 0.5'))
    elif spoil == "newer":
        store.write_json(file, {**json.loads(text), "seal": None})
        body = {**json.loads(text), "schema_version": 99}
        file.write_text(json.dumps(body))
    elif spoil == "weights":
        weights = folder / "seed-1.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    else:
        (folder / "seed-1.safetensors").unlink()
    code, out, err = run("export", "--target", "local", "--runtime", "onnxruntime", "--precision", "fp32")
    line = one_line(err)
    assert code == 2 and out == ""
    assert {"truncate": "damaged", "edit": "edited", "newer": "99", "weights": "damaged", "missing": "not exist"}[
        spoil
    ] in line


@pytest.mark.parametrize("spoil", ["model", "manifest"])
def test_a_damaged_artifact_is_refused(run, copy, spoil):
    artifact = Artifact.load(find_noun(copy, "artifact"))
    file = artifact.model_path if spoil == "model" else artifact.path / "manifest.json"
    file.write_bytes(file.read_bytes()[:-100])
    code, _, err = run("bench")
    assert code == 2 and "damaged" in one_line(err)


def test_a_task_that_changed_is_told_from_one_that_moved(run, copy):
    ticket = find_noun(copy, "ticket")
    body = json.loads((ticket / "ticket.json").read_text())
    body.pop("seal"), body.pop("schema_version")
    store.write_json(ticket / "ticket.json", {**body, "task_file": str(copy / "tiny_task.py")})
    task = copy / "tiny_task.py"
    task.write_text(task.read_text() + "\n# touched\n")
    code, _, err = run("export", "--target", "local")
    assert code == 2 and "changed" in one_line(err)
    task.unlink()
    code, _, err = run("export", "--target", "local")
    assert code == 2 and "moved" in one_line(err)


def test_inspect_gives_the_promised_keys(run, copy):
    _, out, _ = run("inspect", find_noun(copy, "ticket"), "--json")
    ticket = json.loads(out)
    assert {"density", "levels", "verdict", "seeds"} <= ticket.keys()
    assert {"ticket", "dense", "reinit"} <= ticket["seeds"]["1"]["test"].keys()
    assert all(0 <= value <= 1 for value in ticket["seeds"]["1"]["test"].values())
    _, out, _ = run("inspect", find_noun(copy, "artifact"), "--json")
    promised = "runtime precision zeros_lost parity_max_abs metric_torch metric_runtime size_bytes size_zip_bytes"
    artifact = json.loads(out)
    assert set(promised.split()) <= artifact.keys()
    # A network of fp32 does on the test set in its runtime what it did in PyTorch when the ticket was judged.
    test = ticket["seeds"]["1"]["test"]
    told = [artifact[f"metric_test_{name}"] for name in ("runtime", "torch", "dense")]
    assert artifact["precision"] == "int8" or told[0] == test[artifact["variant"]]
    assert told[1:] == [test[artifact["variant"]], test["dense"]]
    assert (
        artifact["size_bytes"]
        == artifact["library_bytes"] + Path(artifact["path"], artifact["model_file"]).stat().st_size
    )
    assert artifact["options"] == {"target": "local", "max_drop": 0.01, "portable": False}


def test_bench_and_report_work_from_the_newest(run, copy):
    code, out, err = run("bench", "--pairs", "1", "--json")
    assert code == 0, err
    measured = json.loads(out)[0]
    assert measured["p50_ns"] > 0 and measured["samples"] >= 100
    assert measured["against"]["p50_ns"] > 0 and measured["ratio"]["value"] > 0
    code, out, _ = run("report")
    page = Path(out.strip())
    assert code == 0 and page.suffix == ".html" and "<html" in page.read_text()


def test_export_prints_one_path_a_line_and_each_has_a_dense_twin(run, copy):
    code, out, _ = run("export", "--target", "local")
    paths = [Path(line) for line in out.splitlines()]
    assert code == 0 and len(paths) == 4
    for path in paths:
        artifact = Artifact.load(path)
        assert artifact.variant == "ticket" and artifact.zeros_lost == 0
        twin = Artifact.load(artifact.twin_path())
        assert twin.variant == "dense" and (twin.runtime, twin.precision) == (artifact.runtime, artifact.precision)
        assert path.with_name(f"{path.name}.zip").is_file()


def test_every_command_has_an_example_in_its_help():
    for name, command in cli.commands.items():
        assert f"edgeprune {name}" in command.help, name


def test_ctrl_c_in_the_middle_keeps_what_is_finished(tmp_path):
    command = [sys.executable, "-m", "edgeprune", "find", f"{TINY}:slow", "--levels", "3", "--seeds", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    for line in process.stderr:
        if "level  0/3" in line or time.monotonic() > deadline:
            break
    os.kill(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted" in rest and "Traceback" not in rest
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "finished before" in again.stderr
    assert Ticket.load(tmp_path / again.stdout.strip()).spec.levels == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    command = [sys.executable, "-m", "edgeprune", "find", f"{TINY}:make", "--levels", "4", "--seeds", "1,2"]
    try:
        first = subprocess.run([*command, "--out", str(disk)], capture_output=True, text=True)
        assert first.returncode == 2, first.stderr
        assert "No space left" in one_line(first.stderr)
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        second = subprocess.run([*command, "--out", str(disk)], capture_output=True, text=True)
        assert second.returncode == 0 and "finished before" in second.stderr
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("command", [["bench", "--pairs", "1"], ["report"], ["export", "--target", "local"]])
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_read_only_folder_is_one_line(copy, command):
    """Of the commands that read and write one folder; `find` on a full disk is above."""
    out = copy / "edgeprune-out"
    if subprocess.run(["mount", "--bind", "-o", "ro", out, out], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", out], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune", *command], cwd=copy, capture_output=True, text=True, timeout=120
        )
    finally:
        subprocess.run(["umount", out], check=True)
    assert done.returncode == 2, done.stderr
    line = one_line(done.stderr)
    assert "Read-only file system" in line and "edgeprune-out" in line and "--out" in line


def test_an_output_that_cannot_be_written_is_one_line(copy):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune", "targets"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2 and "cannot write the output: No space left" in one_line(done.stderr)


@pytest.mark.parametrize("arguments", [["targets", "--wrong"], ["inspect", "missing"], ["report"]])
def test_words_that_cannot_be_written_change_no_exit_code(tmp_path, arguments):
    command = [sys.executable, "-m", "edgeprune", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=full, timeout=120)
    assert done.returncode == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_in_order(tmp_path, number, status):
    command = [sys.executable, "-m", "edgeprune", "find", f"{TINY}:slow", "--levels", "1", "--seeds", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "level  0/1" in line:
                break
        process.send_signal(number)
        rest = process.communicate(timeout=60)[1]
    assert process.returncode == status
    assert "interrupted" in rest and "Traceback" not in rest
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(("states", "status"), [(["ok", "note"], 0), (["ok", "unfair"], 3), (["missing", "unfair"], 1)])
def test_doctor_ends_with_what_the_state_allows(run, monkeypatch, states, status):
    from edgeprune import doctor

    monkeypatch.setattr(doctor, "device_checks", lambda *_: [doctor.Check(state, state, "x") for state in states])
    code, out, _ = run("doctor", "--target", "local")
    assert code == status and states[1] in out


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("measurements", ["bench", "--pairs", "1"]),
        ("reports", ["report"]),
        ("artifacts", ["export", "--target", "local", "--runtime", "onnxruntime", "--precision", "fp32"]),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_is_one_line_under_every_command(copy, kind, command):
    """`find` has its own test above; scripts/fault_sweep disks tries all of them in full."""
    bundle = find_noun(copy, "artifact")
    disk = copy / "edgeprune-out" / kind
    disk.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    arguments = [*command, *([str(bundle)] if kind == "measurements" else [])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune", *arguments], cwd=copy, capture_output=True, text=True, timeout=120
        )
        left = [path.name for path in disk.rglob("*.tmp")]
    finally:
        subprocess.run(["umount", disk], check=True)
    assert done.returncode == 2, done.stderr
    line = one_line(done.stderr)
    assert "No space left" in line and f"edgeprune-out/{kind}/" in line and "free some space" in line
    assert left == []


def test_a_bench_that_is_killed_leaves_nothing_and_goes_on(copy, tmp_path_factory):
    temporary = tmp_path_factory.mktemp("temporary")
    environment = {**os.environ, "TMPDIR": str(temporary), "EDGEPRUNE_TEST": temporary.name}
    command = [sys.executable, "-m", "edgeprune", "bench", "--pairs", "2", str(find_noun(copy, "artifact"))]
    with subprocess.Popen(command, cwd=copy, env=environment, stderr=subprocess.DEVNULL) as process:
        until(lambda: list(temporary.glob("*/samples-2.jsonl")))
        process.kill()
    until(lambda: not marked(temporary.name))
    again = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "continued after block" in again.stderr
    assert not list(temporary.iterdir()) and not marked(temporary.name)
    assert not list((copy / "edgeprune-out" / "measurements").glob(".*"))


def until(happened):
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def marked(mark):
    """Processes with a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"EDGEPRUNE_TEST={mark}\0".encode() in (path / "environ").read_bytes():
                found.append(path.name)
        except OSError:
            continue
    return found


def test_what_a_framework_makes_of_an_interruption_is_an_interruption(run, monkeypatch):
    """PyTorch's exporter turns what goes through it into errors of its own."""
    from edgeprune import tasks

    def interrupted(_name):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            raise ValueError("already registered") from None

    monkeypatch.setattr(tasks, "load", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    code, _, err = run("find", "digits")
    assert code == 143 and "interrupted" in err and "Traceback" not in err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_an_object_s_end_swallows_comes_again(run, monkeypatch):
    from edgeprune import tasks

    class Thrown:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))

    def interrupted(_name):
        Thrown()
        for _ in range(6000):
            time.sleep(0.01)

    monkeypatch.setattr(tasks, "load", interrupted)
    code, _, err = run("find", "digits")
    assert code == 143 and "interrupted" in err and "Traceback" not in err
