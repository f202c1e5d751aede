from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.connections.devices import ssh_server
from tests.connections.ssh_server import SshServer


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh"), monkeypatch) as started:
        yield started
