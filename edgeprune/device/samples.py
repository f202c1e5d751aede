"""What an agent leaves on its device: samples as they come, and the result at the very end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypedDict

PHASES = {  # in order, with the words for what was done in them
    "start": "before its first phase",
    "import": "while importing the runtime",
    "load": "while loading the model",
    "first": "in the first inference",
    "warmup": "in the warm-up",
    "steady": "in the timed session",
    "sustained": "in the sustained session",
    "profile": "in the profile after the timed session",
}


class Window(TypedDict):
    """A window of the sustained phase: begin_ns and end_ns since the phase began, count, mean_ns, p50_ns, p90_ns (None
    where the samples are too few for it) and max_ns of its latencies, and the conditions at its end."""

    begin_ns: int
    end_ns: int
    count: int
    mean_ns: int
    p50_ns: int
    p90_ns: Optional[int]
    max_ns: int
    conditions: Mapping[str, Any]


class Line(TypedDict, total=False):
    """A line of the samples file, one of these. phase: the name of one that begins."""

    phase: str
    samples_ns: tuple[int, ...]
    window: Window


class Result(TypedDict):
    """The result file of an agent that ended well."""

    start_ns: int
    import_ns: int
    load_ns: int
    first_ns: int
    warmup_ns: tuple[int, ...]
    samples: int
    memory_bytes: Mapping[str, Mapping[str, int]]
    conditions_before: Mapping[str, Any]
    conditions_after: Mapping[str, Any]
    model_sha256: str
    output_max_abs: float
    kernels_us: Mapping[str, Sequence[int]]
    power_uw: Mapping[str, Sequence[Sequence[int]]]
    environment: Mapping[str, Any]


class Error(TypedDict):
    """Why an agent failed."""

    message: str
    hint: str


class Failed(TypedDict):
    """The result file of an agent that failed and could say why."""

    error: Error


class Log:
    """The samples file: lines appended and flushed, so that they outlive a killed process."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._file = self.path.open("w")

    def line(self, name: str, value: Any) -> None:
        """Append {name: value}."""
        self._file.write(json.dumps({name: value}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing more will come."""
        self._file.close()


def write_result(path: Path, content: dict[str, Any]) -> None:
    """Write the result so that it exists only when it is complete."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()
