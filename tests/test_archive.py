"""The .zip of a bundle is as good as its folder, leaves nothing behind, and nothing of it gets out of its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeprune
from edgeprune import Artifact, ExportError, archive
from tests.bench.conftest import forward, make_bundle


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(archive, "_unpacked", {})
    yield folder


def packed(folder: Path, **changes: str) -> Path:
    return make_bundle(folder, **changes).path.with_name(f"{folder.name}.zip")


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_zip_is_loaded_as_its_folder_is(runtime: str, tmp_path: Path, temporary: Path) -> None:
    path = packed(tmp_path / "b", runtime=runtime)
    for folder in (tmp_path / "b", path):
        model = edgeprune.load(str(folder))
        x = model.artifact.probes()["input"]
        assert abs(model(x) - forward(x, 16)).max() < 1e-5
    assert model.artifact == Artifact.load(path) and model.artifact.path.name == "b" and model.artifact.source == path
    assert len(list(temporary.iterdir())) == 1, "unpacked once, however often it is opened"


def test_the_dense_twin_of_a_zip_lies_beside_it(tmp_path: Path, temporary: Path) -> None:
    path = packed(tmp_path / "b", twin="dense")
    make_bundle(tmp_path / "dense", variant="dense")
    assert Artifact.load(path).twin_path() == tmp_path / "dense"
    (tmp_path / "dense").rename(tmp_path / "away")
    twin = Artifact.load(path).twin_path()
    assert twin == tmp_path / "dense.zip" and Artifact.load(twin).variant == "dense"


LOAD = """
import sys, time, edgeprune
edgeprune.load(sys.argv[1])
print("loaded", flush=True)
time.sleep(float(sys.argv[2]))
"""
OUTSIDE = ("../x", "/x", "b/../../x", "c/x", "x", "b/c/x", "b\\x", "b/..", "b/.x", "b/model.onnx")


def start(path: Path, temporary: Path, seconds: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(edgeprune.__file__).parents[1])}
    command = [sys.executable, "-c", LOAD, str(path), seconds]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_nothing_stays_behind_not_even_of_a_killed_process(tmp_path: Path, temporary: Path) -> None:
    path = packed(tmp_path / "b")
    running, killed = (start(path, temporary, "600") for _ in range(2))
    for process in (running, killed):
        assert process.stdout is not None and process.stdout.readline() == "loaded\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list(temporary.iterdir())) == 2
    assert start(path, temporary, "0").communicate()[0] == "loaded\n"
    (left,) = temporary.iterdir()
    assert (left / "b" / "manifest.json").is_file(), "what another process uses stays"
    running.kill()
    running.communicate()
    assert start(path, temporary, "0").communicate()[0] == "loaded\n"
    assert list(temporary.iterdir()) == []


def rewritten(path: Path, change: dict[str, tuple[str, bytes]], more: dict[str, bytes]) -> None:
    """change: name in the bundle -> the entry in its place; more: entries behind."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(*change.get(name, (name, data)))
        for name, data in more.items():
            file.writestr(name, data)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "b/../../x", "c/x", "x", "b/c/x", "b\\x", "b/..", "b/.x", "b/model.onnx"]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_leave_the_bundle_are_refused(name: str, tmp_path: Path, temporary: Path) -> None:
    path = packed(tmp_path / "b")
    rewritten(path, {}, {name: b"x"})
    with pytest.raises(ExportError, match="no archive of a bundle"):
        Artifact.load(path)
    assert list(temporary.iterdir()) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "b.zip", "temporary"]


def test_what_would_fill_the_disk_is_refused(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "b")
    monkeypatch.setattr(archive, "LARGEST", 1000)
    with pytest.raises(ExportError, match="unpacks to more than 1,000 bytes"):
        Artifact.load(path)
    monkeypatch.undo()
    rewritten(path, {}, {f"b/{number}": b"x" for number in range(archive.MOST_FILES)})
    with pytest.raises(ExportError, match="at most 64 files"):
        Artifact.load(path)


def test_every_cut_and_flip_gives_one_line(tmp_path: Path, temporary: Path) -> None:
    path = packed(tmp_path / "b")
    good = path.read_bytes()
    for place in range(0, len(good), 97):
        flipped = bytearray(good)
        flipped[place] ^= 4
        for data in (good[:place], bytes(flipped)):
            path.write_bytes(data)
            try:
                Artifact.load(path)
            except ExportError as problem:
                assert "\n" not in str(problem)
            archive._unpacked.clear()
