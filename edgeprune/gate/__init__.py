"""The gate: does a measurement keep its budgets? Judged by the bounds of intervals, never by a mean.

split_budgets    "latency_p90=10ms,size=5MB" -> names and texts
parse_budgets    these, or a target's -> budgets
unfairness       why the device's state forbids a judgement, or ""
judge            each budget passed, failed or inconclusive, with the interval that says so
exit_code        what the command ends with
junit            the same as JUnit XML, a test case a budget
"""

from __future__ import annotations

from edgeprune.gate.budgets import Budget, parse_budgets, split_budgets
from edgeprune.gate.judging import Judgement, exit_code, judge, unfairness
from edgeprune.gate.junit import junit

__all__ = [
    "Budget",
    "Judgement",
    "exit_code",
    "judge",
    "junit",
    "parse_budgets",
    "split_budgets",
    "unfairness",
]
