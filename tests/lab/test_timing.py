"""The laboratory times as `bench` does: blocks that take turns, from their steady states on, and its statistics."""

from __future__ import annotations

import math

import pytest

from edgeprune.plan import Plan
from edgeprune.statistics import paired_ratio
from lab import block, timing


def test_sides_take_turns_in_blocks_and_no_place_is_always_the_same_ones() -> None:
    turns: list[str] = []

    def side(name: str) -> timing.Side:
        return lambda plan: (turns.append(name) or [1] * 10, [len(turns)] * 90)

    compared = timing.alternate({name: side(name) for name in ("dense", "sparse", "other")}, 6)
    rounds = [turns[begin : begin + 3] for begin in range(0, 18, 3)]
    assert all(set(names) == {"dense", "sparse", "other"} for names in rounds)
    for first, second in zip(rounds[::2], rounds[1::2]):
        assert second == first[::-1]
    assert len({names[0] for names in rounds}) == 3
    assert [block[0] for block in compared.blocks_ns["dense"]] == [
        number for number, name in enumerate(turns, 1) if name == "dense"
    ]


def test_samples_before_the_steady_state_do_not_count() -> None:
    falling, flat = range(1000, 100, -30), [100] * 80
    compared = timing.alternate({"only": lambda plan: ([1000] * 5, [*falling, *flat])}, 1)
    (samples,) = compared.blocks_ns["only"]
    assert len(flat) <= len(samples) < len(flat) + len(falling) // 2


def test_sides_are_compared_as_bench_compares() -> None:
    dense = [[1_000_000 + 1000 * place] * 3 for place in (3, 1, 4, 1, 5, 9)]
    sparse = [[250_000 + 100 * place] * 3 for place in (2, 6, 5, 3, 5, 8)]
    compared = timing.Compared({"dense": dense, "sparse": sparse, "slower": [[2_000_000]] * 6})
    assert compared.ratio("dense", "sparse") == paired_ratio(sparse, dense)
    assert compared.ratio("dense", "sparse").interval is not None
    assert compared.fastest("slower", "dense") == "dense"
    assert compared.medians_ms("sparse")[0] == 0.2502
    assert compared.median_ms("slower") == 2.0


@pytest.mark.parametrize(
    ("call_ns", "warm_ups", "samples"),
    # Enough inferences, then enough time, then the limits: half of it for the warm-ups.
    [(10_000_000, 50, 100), (1_000_000, 50, 300), (50_000_000, 11, 20), (2_000_000_000, 2, 3)],
)
def test_a_block_ends_by_the_rules_of_a_plan(
    monkeypatch: pytest.MonkeyPatch, call_ns: int, warm_ups: int, samples: int
) -> None:
    now = [0]

    def call(example: object) -> None:
        assert example == 7
        now[0] += call_ns

    monkeypatch.setattr(block.time, "perf_counter_ns", lambda: now[0])
    warm, taken = timing.local(call, 7)(Plan(seconds=0.3, limit_seconds=1.0, warmups=50, samples=100))
    assert (len(warm), len(taken)) == (warm_ups, samples)
    assert set(warm + taken) == {call_ns}
    assert not math.isnan(sum(taken))
