"""The assignment of operators to packed and stock is the cheapest there is."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.export.sparse.regions import Tensor, plan, time_of

TIMES = st.integers(0, 50)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[int, float], dict[int, float], list[Tensor]]:
    count = draw(st.integers(1, 6))
    keys = range(count)
    tensors = []
    for producer in (None, *keys):
        later = [key for key in keys if producer is None or key > producer]
        readers = draw(st.lists(st.sampled_from([None, *later]), unique=True, max_size=3))
        tensors.append(Tensor(producer, tuple(readers), float(draw(TIMES)), float(draw(TIMES))))
    return (
        {key: float(draw(TIMES)) for key in keys},
        {key: float(draw(TIMES)) for key in keys},
        tensors,
    )


def cost(inside: set[int], packed: dict[int, float], stock: dict[int, float], tensors: list[Tensor]) -> float:
    """What an assignment costs, counted operator by operator and tensor by tensor."""
    total = sum(packed[key] if key in inside else stock[key] for key in packed)
    for tensor in tensors:
        written_packed = tensor.producer in inside
        needs_packed = any(reader in inside for reader in tensor.readers)
        needs_plain = any(reader not in inside for reader in tensor.readers)
        total += tensor.pack if needs_packed and not written_packed else 0
        total += tensor.unpack if needs_plain and written_packed else 0
    return total


@given(graphs())
def test_no_other_assignment_is_cheaper(graph: tuple[dict[int, float], dict[int, float], list[Tensor]]) -> None:
    keys = list(graph[0])
    best = min(
        cost({key for key, inside in zip(keys, chosen) if inside}, *graph)
        for chosen in product((False, True), repeat=len(keys))
    )
    found = plan(*graph)
    assert cost(found, *graph) <= best + 1e-3
    assert time_of(found, *graph) == pytest.approx(cost(found, *graph))


def test_an_island_that_pays_less_than_its_conversions_stays_stock() -> None:
    tensors = [Tensor(None, (0,), 30.0, 30.0), Tensor(0, (None,), 30.0, 30.0)]
    assert plan({0: 50.0}, {0: 100.0}, tensors) == set()
    assert plan({0: 30.0}, {0: 100.0}, tensors) == {0}


def test_a_slow_packed_operator_between_two_fast_ones_may_join_them() -> None:
    tensors = [
        Tensor(None, (0,), 30.0, 30.0),
        Tensor(0, (1,), 30.0, 30.0),
        Tensor(1, (2,), 30.0, 30.0),
        Tensor(2, (None,), 30.0, 30.0),
    ]
    assert plan({0: 10.0, 1: 50.0, 2: 10.0}, {0: 100.0, 1: 40.0, 2: 100.0}, tensors) == {0, 1, 2}
    assert plan({0: 10.0, 1: 150.0, 2: 10.0}, {0: 100.0, 1: 40.0, 2: 100.0}, tensors) == {0, 2}
