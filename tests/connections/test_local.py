"""The local connection's own cases; what all connections share lies in tests/contracts/test_connections.py."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from edgeprune.connections.local import LocalConnection, connect
from edgeprune.errors import DeviceError

Usage = namedtuple("Usage", "total used free")


def folder_of(connection: LocalConnection) -> Path:
    return Path(connection.execute(["pwd"], 10).strip())


def test_two_connections_do_not_share_a_folder() -> None:
    with connect() as one, connect() as other:
        assert folder_of(one) != folder_of(other)


def test_full_disk_is_noticed_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").write_bytes(b"x" * 100)
    with connect() as connection:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000, 901, 99))
        with pytest.raises(DeviceError, match=r"it has 100 bytes, 99 bytes are free.*TMPDIR"):
            connection.push(tmp_path / "model", "model")
        assert list(folder_of(connection).iterdir()) == []


def test_failed_push_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").write_text("old")

    def fail(source: Path, destination: Path) -> None:
        destination.write_text("half")
        raise OSError(28, "No space left on device")

    with connect() as connection:
        connection.push(tmp_path / "model", "model")
        monkeypatch.setattr(shutil, "copyfile", fail)
        with pytest.raises(DeviceError, match="No space left"):
            connection.push(tmp_path / "model", "model")
        assert [path.read_text() for path in folder_of(connection).iterdir()] == ["old"]


def test_a_large_output_does_not_block() -> None:
    with connect() as connection:
        assert len(connection.execute(["head", "-c", "3000000", "/dev/zero"], 30)) == 3_000_000


def test_close_after_an_error_in_the_with_block() -> None:
    with pytest.raises(KeyboardInterrupt), connect() as connection:
        folder = folder_of(connection)
        raise KeyboardInterrupt
    assert not folder.exists()
