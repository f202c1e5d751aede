"""One block of inferences in this process, by the rules of `edgeprune.plan.Plan`.

Standard library only, since it also runs in the Python of another runtime (`lab.peer_session`).
"""

from __future__ import annotations

import gc
import time
from typing import Callable

FEWEST_SAMPLES = 3
Taken = tuple[list[int], list[int]]


def take(call: Callable[[], object], warmups: int, samples: int, seconds: float, limit_seconds: float) -> Taken:
    """Nanoseconds of the warm-ups and of the samples, as the agent of `bench` takes them: fewer warm-ups if they last
    longer than half of `limit_seconds`; the block ends once it has `samples` samples and has lasted `seconds`, and in
    any case after `limit_seconds`."""

    def one() -> int:
        begin = time.perf_counter_ns()
        call()
        return time.perf_counter_ns() - begin

    gc.collect()
    gc.disable()
    try:
        warm, taken = [one()], list[int]()
        begin = time.perf_counter_ns()
        while len(warm) < warmups and time.perf_counter_ns() - begin < limit_seconds / 2 * 1e9:
            warm.append(one())
        begin, lasted = time.perf_counter_ns(), 0.0
        while (len(taken) < samples or lasted < seconds) and (lasted < limit_seconds or len(taken) < FEWEST_SAMPLES):
            taken.append(one())
            lasted = (time.perf_counter_ns() - begin) / 1e9
        return warm, taken
    finally:
        gc.enable()
