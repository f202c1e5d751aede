"""How much is pruned at which level: from --levels, --rate and --density to one rate a pruning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from edgeprune.errors import PatternError, TicketError
from edgeprune.patterns import Pattern

DEFAULT_LEVELS = 10
MOST_LEVELS = 100
ALMOST_ALL = 1 - 1e-9
# For sums of products that ought to be equal.
SLACK = 1e-9


def tensor_densities(rates: Sequence[float], factors: Mapping[str, float]) -> dict[str, float]:
    """Density that each tensor is asked for after all of `rates`: the product of 1 - rate * factor."""
    return {name: math.prod(1 - rate * factor for rate in rates) for name, factor in factors.items()}


def network_density(
    rates: Sequence[float],
    factors: Mapping[str, float],
    shapes: Mapping[str, tuple[int, ...]],
    pattern: Pattern,
    start: Optional[Mapping[str, float]] = None,
    together: bool = False,
) -> float:
    """Nonzero / all prunable weights that the pattern reaches after all of `rates`. start: density of each tensor
    before the first pruning, where that is not 1. together: tensors are ranked together, so that groups are rounded
    over all of them."""
    asked = tensor_densities(rates, factors)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    kept = 0.0
    for name, shape in shapes.items():
        wanted = asked[name] * (start or {}).get(name, 1.0)
        exact = together or not factors[name]
        kept += sizes[name] * (wanted if exact else pattern.reachable(shape, wanted))
    return kept / sum(sizes.values())


def resolve_rates(
    levels: Optional[int],
    rates: Sequence[float],
    density: Optional[float],
    default_rate: float,
    reached: Callable[[Sequence[float]], float],
    pattern: Pattern,
) -> tuple[float, ...]:
    """One rate for each pruning after the dense level.

    Any two of levels, rates and density determine the third; `reached` gives the network's density after some rates.
    One rate serves all levels; of several, the last one serves the levels beyond them. With a density, the last
    pruning (or, with levels alone, each one) is made just large enough to reach it. None given: 10 levels at the
    recipe's rate; an n:m pattern instead drops one weight a group at each level until n are left. TicketError or
    PatternError for what cannot be.
    """
    _check(levels, rates, density, pattern)
    given = tuple(rates) or (default_rate,)
    if density is None and pattern.lowest_density and not rates:
        if levels is None:
            return pattern.natural_rates
        density = pattern.lowest_density
    if density is None and levels is None and len(rates) < 2:
        levels = DEFAULT_LEVELS
    if density is None:
        count = levels if levels is not None else len(given)
        if len(given) > count:
            raise TicketError(f"{len(given)} rates for {count} levels", "give one rate, or as many as levels")
        return _extend(given, count)
    lowest = reached((ALMOST_ALL,) * (levels or MOST_LEVELS))
    if lowest > density + SLACK:
        within = f"in {levels} level{'s' if levels > 1 else ''}" if levels else "in any number of levels"
        raise TicketError(
            f"density {density} cannot be reached {within}: {lowest:.4g} is the lowest, since a part is kept dense, "
            "pruned at a smaller rate, or down to its last channel or block",
            _reachable(lowest) + (", or more --levels" if levels else ""),
        )
    if levels is not None:
        return (_smallest(lambda rate: reached((rate,) * levels), density),) * levels
    counts = (count for count in range(1, MOST_LEVELS + 1) if reached(_extend(given, count)) <= density + SLACK)
    count = next(counts, 0)
    if not count:
        raise TicketError(
            f"density {density} is not reached in {MOST_LEVELS} levels", "use a larger --rate or --density"
        )
    before = _extend(given, count - 1)
    return (*before, _smallest(lambda rate: reached((*before, rate)), density))


def _reachable(lowest: float) -> str:
    least = math.ceil(1000 * lowest) / 1000
    return f"use --density {least:g} or more" if least < 1 else "use another --pattern, which can prune more"


def _check(levels: Optional[int], rates: Sequence[float], density: Optional[float], pattern: Pattern) -> None:
    if levels is not None and rates and density is not None:
        raise TicketError("levels, rate and density are all given, and any two determine the third", "leave one out")
    if levels is not None and not 1 <= levels <= MOST_LEVELS:
        raise TicketError(f"levels must lie in 1..{MOST_LEVELS}, got {levels}")
    for name, value in [("rate", rate) for rate in rates] + [("density", density)]:
        if value is not None and not 0 < value < 1:
            raise TicketError(f"{name} must lie between 0 and 1 (both excluded), got {value}", "0.2 means 20 %")
    if density is not None and density < pattern.lowest_density - SLACK:
        raise PatternError(
            f"pattern {pattern.name} cannot go below density {pattern.lowest_density}, got {density}",
            f"use --density {pattern.lowest_density} or another pattern",
        )
    if pattern.lowest_density and density is None and levels is not None:
        rate = min(rates, default=0.0)
        if rate and (1 - rate) ** levels < pattern.lowest_density * (1 - rate):
            raise PatternError(
                f"pattern {pattern.name} stops at density {pattern.lowest_density}, which {levels} levels at rate "
                f"{rate} overshoot",
                "use fewer levels",
            )


def _extend(rates: Sequence[float], count: int) -> tuple[float, ...]:
    return (*rates[:count], *(rates[-1],) * (count - len(rates)))


def _smallest(reached: Callable[[float], float], density: float) -> float:
    """The smallest rate (to 2^-40) that reaches the density, which some rate below 1 does."""
    low, high = 0.0, ALMOST_ALL
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) <= density + SLACK else (middle, high)
    return high
