"""A device of each kind for the tests: this machine, reached the way that a device of that kind is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeprune import connections
from edgeprune.connections import Connection
from tests.connections.ssh_server import HOST, SSHD, SshServer

Connect = Callable[[], Connection]


@contextmanager
def device(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """What opens a connection to it, while it is there."""
    if kind == "local":
        yield connections.load("local").connect
    elif kind == "ssh":
        with ssh_server(folder, patch):
            yield lambda: connections.load("ssh").connect(HOST)
    else:
        raise AssertionError(f"no test device for the connection {kind}")


@contextmanager
def ssh_server(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """A server that `ssh` finds by the name HOST."""
    if SSHD is None:
        pytest.skip("no sshd: on Debian run apt-get install openssh-server")
    server = SshServer(folder)
    patch.setenv("PATH", f"{server.shims}{os.pathsep}{os.environ['PATH']}")
    try:
        yield server
    finally:
        server.stop()
