"""A fault in each of a user's functions at each phase: scripts/fault_sweep hooks, some of its cases."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
# One of each hook, each phase and each fault at least; scripts/fault_sweep runs all.
CHOSEN = {
    ("make", "import", "exits"), ("data", "trial", "raises"), ("model", "control", "gives a word"),
    ("loss", "step", "gives many"), ("forward", "test", "gives None"), ("metric", "validation", "stops iteration"),
    ("optimizer", "control", "gives None"), ("schedule", "step", "raises a group"), ("augment", "step", "gives NaN"),
    ("step", "step", "exits with words"), ("forward", "step", "changes the folder"), ("forward", "export", "exits"),
    ("metric", "validation", "prints"), ("forward", "validation", "changes what it gets"),
}  # fmt: skip
RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fault_hooks
import fault_runs
fault_runs.preload()
for number in map(int, sys.argv[3:]):
    print(fault_hooks.case(Path(sys.argv[2]), False, number) or "", end="")
"""


@pytest.fixture
def part(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("fault_hooks")


def test_a_fault_ends_in_one_line_and_harmless_ones_in_a_ticket(part, tmp_path):
    numbers = [number for number, case in enumerate(part.CASES) if case in CHOSEN]
    assert len(numbers) == len(CHOSEN)
    # In a process of its own: the forks of this one would miss the threads of its PyTorch.
    command = [sys.executable, "-c", RUN, str(SCRIPTS), str(tmp_path), *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_hook_phase_and_fault_is_among_the_chosen(part):
    for place, all_of_them in enumerate((part.HOOKS, part.PHASES, part.FAULTS)):
        assert {case[place] for case in CHOSEN} == set(all_of_them)
