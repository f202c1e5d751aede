"""A bundle appears in its place complete, and one process at a time builds it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune import Artifact, ExportError
from edgeprune.export import place
from tests.bench.conftest import make_bundle

HOLDER = """
import sys, time
from pathlib import Path
from edgeprune.export import place
folder = Path(sys.argv[1])
with place.held([folder]):
    (place.site(folder) / folder.name).mkdir()
    print("held", flush=True)
    time.sleep(600)
"""


def build(folder: Path, width: int) -> None:
    with place.held([folder]):
        place.clear(folder)
        artifact = make_bundle(place.site(folder) / folder.name, width=width)
        assert place.put(artifact) == replace(artifact, path=folder)


def test_a_bundle_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    for width in (16, 32):
        build(folder, width)
        assert Artifact.load(folder).weights_total == width * 12 == Artifact.load(tmp_path / "b.zip").weights_total
        assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "b.zip"]


def test_one_that_fails_leaves_what_lay_there(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    build(folder, 16)
    with pytest.raises(ValueError, match="stop"), place.held([folder]):
        make_bundle(place.site(folder) / folder.name, width=32)
        raise ValueError("stop")
    assert Artifact.load(folder).weights_total == 16 * 12
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "b.zip"]


def test_another_process_is_told_and_a_killed_one_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    says = rf"b is being built by another process \(pid {process.pid}\); wait for it"
    with pytest.raises(ExportError, match=says), place.held([tmp_path / "a", folder]):
        pass
    assert not place.site(tmp_path / "a").exists(), "what was held before is let go"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert place.site(folder).is_dir()
    build(folder, 16)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "b.zip"]


def test_a_file_in_its_place_is_no_bundle_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.write_text("x")
    build(folder, 16)
    assert Artifact.load(folder).weights_total == 16 * 12
    shutil.rmtree(folder)
