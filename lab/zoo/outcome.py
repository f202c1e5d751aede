"""What came of a network of the zoo: one sealed JSON file each, written anew after every stage of its trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from edgeprune import store
from edgeprune.errors import EdgepruneError
from edgeprune.evidence import LEAST_DB

CELLS = tuple((runtime, precision) for runtime in ("onnxruntime", "litert") for precision in ("fp32", "int8"))
BARS = {"fp32": 1e-4, "int8": LEAST_DB}
GRAPH_BAR_S = 30.0
RUNS, REFUSED, CRASHED, HUNG = "runs", "refused", "crashed", "hung"


@dataclass(frozen=True)
class Cell:
    """One runtime and precision. state: "runs", "refused" (in one line, before training), or what must not happen,
    "crashed" and "hung". figure, where it runs: fp32, the largest error of an output over that output's largest value;
    int8, the signal-to-noise ratio of the worst output in decibels. line: what was said, where it does not run."""

    state: str
    figure: Optional[float] = None
    line: str = ""


@dataclass(frozen=True)
class Outcome:
    """A network's. family: the file that has it. stage: under way when this was written, "" if it is finished.
    parameters: how many. graph_s, trace_s: processor seconds of the channels' graph and of the trace to ONNX.
    graph_line: what the channels' graph said where it failed. mixed: what its int8 form took."""

    name: str
    family: str
    stage: str = ""
    parameters: int = 0
    graph_s: Optional[float] = None
    graph_line: str = ""
    trace_s: Optional[float] = None
    cells: Mapping[str, Cell] = field(default_factory=dict)
    mixed: str = ""

    def of(self, runtime: str, precision: str) -> Optional[Cell]:
        """What came of a runtime and precision, None if nothing did yet."""
        return self.cells.get(f"{runtime} {precision}")

    def ended(self, state: str, line: str) -> Outcome:
        """The same with all cells that are missing in this state: the process ended in the middle of a stage."""
        missing = {f"{runtime} {precision}" for runtime, precision in CELLS} - set(self.cells)
        cell = Cell(state, line=f"{self.stage}: {line}")
        return dataclasses.replace(self, stage="", cells={**self.cells, **dict.fromkeys(missing, cell)})

    def write(self, folder: Path) -> None:
        """Write it to FOLDER/NAME.json."""
        store.write_json(folder / f"{self.name}.json", dataclasses.asdict(self))


def reaches(precision: str, cell: Cell) -> bool:
    """True for a cell that runs and is close enough to PyTorch."""
    if cell.state != RUNS or cell.figure is None:
        return False
    return cell.figure <= BARS[precision] if precision == "fp32" else cell.figure >= BARS[precision]


def read(folder: Path, name: str) -> Optional[Outcome]:
    """A network's outcome, None where there is no whole file of this form."""
    file = folder / f"{name}.json"
    try:
        return store.decoded(Outcome, store.read_json(file, "outcome", EdgepruneError), file, "outcome", EdgepruneError)
    except EdgepruneError:
        return None
