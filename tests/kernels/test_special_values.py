"""NaN, infinities, -0.0, denormals and the largest numbers: ONNX Runtime's own results, position by position."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgeprune.kernels.build import LEVELS
from tests.kernels.special_cases import all_operators, check
from tests.kernels.test_operators import MACHINE, session, usable


@pytest.mark.parametrize("level", LEVELS[MACHINE])
def test_special_values_go_through_as_in_the_runtimes_own_operators(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not usable(level, monkeypatch):
        pytest.skip(f"this processor has no {level}")

    # A smaller seed is no simpler case.
    @settings(max_examples=3, deadline=None, phases=[Phase.generate])
    @given(seed=st.integers(0, 2**32 - 1), threads=st.sampled_from((1, 2)))
    def compare(seed: int, threads: int) -> None:
        cases = all_operators(seed, each=4)
        opened = session(cases.model().SerializeToString(), threads)
        names = list(cases.outputs)
        for _ in range(6):  # the first four runs count the runtime's threads
            outputs = dict(zip(names, opened.run(names, cases.inputs)))
        check(cases, outputs)

    compare()
