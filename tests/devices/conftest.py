from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.devices.raspberry_pi import RaspberryPi, raspberry_pi


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaspberryPi]:
    with pytest.MonkeyPatch.context() as patch, raspberry_pi(tmp_path_factory.mktemp("pi"), patch) as started:
        yield started
