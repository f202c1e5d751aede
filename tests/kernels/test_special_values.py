"""NaN, infinities, -0.0, denormals and the largest numbers: ONNX Runtime's own results, position by position."""

from __future__ import annotations

import pytest

from edgeprune.kernels.build import LEVELS
from tests.kernels.special_cases import WORLDS, all_operators, check
from tests.kernels.test_operators import MACHINE, session, usable


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("level", LEVELS[MACHINE])
def test_special_values_go_through_as_in_the_runtimes_own_operators(
    level: str, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")
    for seed in range(2):
        cases = all_operators([seed, list(WORLDS).index(world)], world, each=6)
        opened = session(cases.model().SerializeToString(), threads=1 + seed)
        names = list(cases.outputs)
        for _ in range(6):  # the first four runs count the runtime's threads
            outputs = dict(zip(names, opened.run(names, cases.inputs)))
        check(cases, outputs)
