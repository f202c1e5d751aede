from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import TicketError, store

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(path: Path) -> dict[str, object]:
    return store.read_json(path, "ticket", TicketError)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_equal_values_have_equal_bytes(value: dict[str, object]) -> None:
    shuffled = dict(random.Random(0).sample(list(value.items()), len(value)))
    assert store.canonical_json(value) == store.canonical_json(shuffled)
    assert json.loads(store.canonical_json(value)) == value


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_without_a_value_for_it_is_refused(bad: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(tmp_path / "x.json", {"loss": bad})
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store.write_json(tmp_path / "deep" / "x.json", {"a": [1, 2.5, "x"], "b": None})
    assert read(tmp_path / "deep" / "x.json") == {"a": [1, 2.5, "x"], "b": None, "schema_version": store.SCHEMA_VERSION}


def test_every_edit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    store.write_json(path, {"density": 0.1, "seeds": [1, 2]})
    good = path.read_text()
    for old, new in (("0.1", "0.2"), ("2\n", "3\n"), ('"seeds"', '"seedz"'), ('"seal": "', '"seal": "0')):
        assert old in good
        path.write_text(good.replace(old, new))
        with pytest.raises(TicketError, match="edited or damaged"):
            read(path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    store.write_json(path, {"density": 0.1})
    good = path.read_bytes()
    for length in range(len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(TicketError, match="damaged"):
            read(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[]", "not a ticket"),
        (b"{}", "not a ticket"),
        (b"\xff\xfe", "damaged"),
        (b'{"schema_version": 99}', "schema version 99.*reads up to 1"),
        (b'{"schema_version": "1"}', "schema_version: expected a whole number, got .1."),
        (b'{"schema_version": 1}', "seal"),
    ],
)
def test_what_is_no_sealed_file_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(TicketError, match=says) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="does not exist") as caught:
        read(tmp_path / "ticket.json")
    assert "edgeprune find" in caught.value.hint


def test_tensors_round_trip_and_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.array([True, False])}
    first = store.write_tensors(tmp_path / "1", arrays)
    second = store.write_tensors(tmp_path / "2", dict(reversed(arrays.items())))
    assert first == second == store.sha256_file(tmp_path / "1")
    got = store.read_tensors(tmp_path / "1", "ticket", TicketError, first)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype


def test_damaged_tensors_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    sha256 = store.write_tensors(path, {"a": np.zeros(4, dtype=np.float32)})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(TicketError, match="SHA-256"):
        store.read_tensors(path, "ticket", TicketError, sha256)
    path.write_bytes(bytes(data[:-1]))
    with pytest.raises(TicketError, match="damaged"):
        store.read_tensors(path, "ticket", TicketError)
    with pytest.raises(TicketError, match="does not exist"):
        store.read_tensors(tmp_path / "none", "ticket", TicketError)


WRITER = """
import sys
from pathlib import Path
from edgeprune import store
print("ready", flush=True)
while True:
    for letter in b"ab":
        store.write_bytes(Path(sys.argv[1]), bytes([letter]) * (4 << 20))
"""


def test_a_killed_writer_leaves_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "tickets" / "x.bin"
    store.write_bytes(path, b"old")
    whole = {b"a" * (4 << 20), b"b" * (4 << 20)}
    for pause in (0.0, 0.004, 0.011, 0.023, 0.05):
        process = start(WRITER, path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert path.read_bytes() in whole | {b"old"}


FULL_DISK = """
import resource, sys
from pathlib import Path
from edgeprune import store
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.write_bytes(Path(sys.argv[1]), bytes(5000))
except OSError as problem:
    print(problem)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    out, err = start(FULL_DISK, path).communicate()
    assert "File too large" in out, err
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.bin"]


def test_newest_takes_the_last_complete_one(tmp_path: Path) -> None:
    for number, name in enumerate(("digits-2", "digits-1")):
        store.write_json(tmp_path / "tickets" / name / "ticket.json", {})
        os.utime(tmp_path / "tickets" / name / "ticket.json", (number, number))
    (tmp_path / "tickets" / "unfinished").mkdir()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "digits-1.zip").touch()
    assert store.newest(tmp_path, "ticket", TicketError) == tmp_path / "tickets" / "digits-1"
    store.write_json(tmp_path / "measurements" / "a.json", {})
    (tmp_path / "measurements" / ".b.json.123.tmp").touch()
    assert store.newest(tmp_path, "measurement", TicketError).name == "a.json"
    with pytest.raises(TicketError, match="no artifact in") as caught:
        store.newest(tmp_path, "artifact", TicketError)
    assert "edgeprune export" in caught.value.hint


def test_one_that_was_broken_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "tickets" / "digits-1" / "work").mkdir(parents=True)
    with pytest.raises(TicketError, match="digits-1 was broken off") as caught:
        store.newest(tmp_path, "ticket", TicketError)
    assert "same edgeprune find" in caught.value.hint


HOLDER = """
import sys, time
from pathlib import Path
from edgeprune import TicketError, store
with store.lock(Path(sys.argv[1]), TicketError):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_belongs_to_one_process_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "tickets" / "digits-1"
    process = start(HOLDER, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(TicketError, match=f"pid {process.pid}"), store.lock(folder, TicketError):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    entered = []
    with store.lock(folder, TicketError):
        entered.append(folder.is_dir())
    assert entered == [True]


GONE = 2**22 + 1  # no process has such a number


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        left, mine = tmp_path / f".old.json.{GONE}.tmp", tmp_path / f".new.json.{other.pid}.tmp"
        strange = tmp_path / ".mine.tmp"
        for path in (left, mine, strange):
            path.write_text("half")
        locked = tmp_path / f".far.json.{GONE + 1}.tmp"
        with locked.open("w") as file:  # another machine's, on a shared disk
            fcntl.flock(file, fcntl.LOCK_EX)
            store.write_bytes(tmp_path / "x.json", b"whole")
        assert {path.name for path in tmp_path.iterdir()} == {"x.json", mine.name, strange.name, locked.name}
    finally:
        other.communicate(b"\n")
    store.write_bytes(tmp_path / "x.json", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", strange.name}


def test_a_write_that_fails_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        store.write_bytes(tmp_path / "x.json", b"whole")
    assert caught.value.filename == str(tmp_path / "x.json") and caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
