"""A ticket: the sparse subnetworks of one `find` run, one a seed, with their controls and the verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np

from edgeprune import store
from edgeprune.errors import TicketError
from edgeprune.mask import Array, Mask
from edgeprune.metric import Metric
from edgeprune.store import StrPath

LATER_FIELDS = ("revive", "tied", "files", "weights_sha256")
WEIGHTS = ("trained", "dense", "rewind", "reinit")


@dataclass(frozen=True)
class FindSpec:
    """Everything that determines a run's result. Its canonical JSON is what the ticket's id hashes.

    task: the name or reference as given; task_sha256: of its source; data_sha256: of all splits.
    rates: share of the surviving weights removed at each pruning, so `levels` is its length.
    rewind_step: optimizer step that every level goes back to (0: initialisation). margin: what the ticket
    may be worse in the metric's own unit and still count as not inferior, at `confidence` (one-sided).
    threads: of PyTorch; sums are ordered by it, so results differ by it in the last bits.
    revive: zeros that the model brings along may grow. tied: further name of a prunable weight -> its first name.
    files: name -> SHA-256 of what the task's code read while it made the model ("weights.pt") and the data
    ("data/train.csv"). weights_sha256: of the weights that every seed starts from, "" where each makes its own.
    """

    task: str
    task_sha256: str
    data_sha256: str
    pattern: str
    rates: tuple[float, ...]
    scope: str
    rate_scale: Mapping[str, float]
    iterations: int
    batch_size: int
    evaluate_every: int
    rewind_step: int
    seeds: tuple[int, ...]
    margin: float
    confidence: float
    threads: int
    torch_version: str
    revive: bool = False
    tied: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        if not self.rates or any(not 0 < rate < 1 for rate in self.rates):
            raise TicketError(f"rates must lie in (0, 1), and there must be at least one, got {self.rates}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise TicketError(f"seeds must be distinct, and there must be at least one, got {self.seeds}")
        if not 0 <= self.rewind_step < self.iterations:
            raise TicketError(f"rewind step {self.rewind_step} must lie in 0..{self.iterations - 1}, inside a level")
        if not 0 < self.margin < math.inf:
            raise TicketError(f"margin must be a number above 0, got {self.margin:g}")
        if not 0.5 <= self.confidence < 1:
            raise TicketError(f"confidence must lie in [0.5, 1), got {self.confidence}")

    @property
    def levels(self) -> int:
        """Number of prunings after the dense level 0."""
        return len(self.rates)

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON of all fields and the schema version, 64 hexadecimal digits."""
        # A field that is newer than the first tickets counts where it says something, so that their ids stay.
        fields = {name: value for name, value in asdict(self).items() if name not in LATER_FIELDS or value}
        return store.sha256_bytes(store.canonical_json({**fields, "schema_version": store.SCHEMA_VERSION}))


@dataclass(frozen=True)
class LevelRecord:
    """One trained level of one seed. validation: metric of the weights kept; loss: mean training loss since the last
    validation; step: optimizer step of the weights kept."""

    level: int
    density: float
    densities: Mapping[str, float]
    validation: float
    loss: float
    step: int


@dataclass(frozen=True)
class SeedRecord:
    """One seed: its levels from 0 (dense), and test metrics of `ticket`, `dense` and `reinit` at the chosen level;
    without `reinit`, and with None, where that control is not possible."""

    seed: int
    levels: tuple[LevelRecord, ...]
    test: Mapping[str, float]
    reinit_validation: Optional[float]
    tensors_sha256: str


@dataclass(frozen=True)
class Verdict:
    """The statement about the chosen level, on the test set, over the seeds.

    status: "winning" (not inferior to dense and better than the reinit control), "not inferior" (the control does as
    well), "inferior" (the mean lies below the margin and the interval excludes 0), "not shown" or "one seed".
    difference: mean over seeds of ticket - dense, with `interval`, two-sided at 2 * confidence - 1, or None for one
    seed; over_reinit and over_reinit_interval: the same for ticket - reinit, None where that control is not possible.
    controls: control -> "run", "not run" or "not possible: " and why. examples: of the test set; over_examples: whether
    the intervals hold what other examples would change, besides other seeds.
    """

    status: str
    level: int
    density: float
    difference: float
    interval: Optional[tuple[float, float]]
    over_reinit: Optional[float]
    over_reinit_interval: Optional[tuple[float, float]]
    seeds: int
    margin: float
    confidence: float
    controls: Mapping[str, str]
    statement: str
    examples: int = 0
    over_examples: bool = False


@dataclass(frozen=True)
class Ticket:
    """A finished run on disk: `path` holds ticket.json and seed-N.safetensors for each seed.

    task_file: absolute path of the user's task file, or "" for a built-in or installed task. metric_name,
    smaller_is_better, metric_unit and parameters (all trainable parameters of the dense model) describe the task.
    data_dir: absolute path of the folder that the data were read from, or "" where none was given.
    """

    path: Path
    spec: FindSpec
    task_name: str
    task_file: str
    metric_name: str
    parameters: int
    seeds: tuple[SeedRecord, ...]
    verdict: Verdict
    smaller_is_better: bool = False
    metric_unit: str = ""
    data_dir: str = ""

    def __post_init__(self) -> None:
        if tuple(record.seed for record in self.seeds) != self.spec.seeds:
            raise TicketError(f"ticket {self.path} does not hold the seeds of its spec")

    @property
    def id(self) -> str:
        """The spec's id."""
        return self.spec.id

    @property
    def metric(self) -> Metric:
        """The metric's name, direction and unit."""
        return Metric(self.metric_name, self.smaller_is_better, self.metric_unit)

    def record(self, seed: int) -> SeedRecord:
        """The record of one seed."""
        for record in self.seeds:
            if record.seed == seed:
                return record
        raise TicketError(f"ticket {self.path} has no seed {seed}", f"seeds: {', '.join(map(str, self.spec.seeds))}")

    @property
    def median_seed(self) -> int:
        """The seed with the median validation metric at the chosen level (the worse one of two middles)."""
        level = self.verdict.level
        ranked = sorted(self.seeds, key=lambda record: (self.metric.gain(record.levels[level].validation), record.seed))
        return ranked[(len(ranked) - 1) // 2].seed

    def tensors(self, seed: int) -> dict[str, dict[str, Array]]:
        """The arrays of one seed: {"mask": {name: bool}, "trained": {name: array}, "dense": ..., "rewind": ...,
        "reinit": ...}. Raises TicketError if the file is damaged."""
        record = self.record(seed)
        path = self.path / f"seed-{seed}.safetensors"
        arrays = store.read_tensors(path, "ticket", TicketError, record.tensors_sha256)
        groups = {"mask": {}, **{role: {} for role in WEIGHTS}, **store.parted(arrays)}
        for role, tensors in groups.items():
            for name, array in tensors.items():
                if role not in ("mask", *WEIGHTS) or (role == "mask") != (array.dtype == np.bool_):
                    key = f"{role}/{name}" if role else name
                    raise TicketError(
                        f"ticket file {path}: {key[:80]!r} ({array.dtype}) is no tensor of a ticket",
                        store.MEND["ticket"],
                    )
        return groups

    def verify(self) -> None:
        """TicketError if the tensors of any seed are missing or damaged."""
        for record in self.seeds:
            path = self.path / f"seed-{record.seed}.safetensors"
            if not path.is_file() or store.sha256_file(path) != record.tensors_sha256:
                raise TicketError(f"ticket file {path} is missing or damaged", store.MEND["ticket"])

    def mask(self, seed: int) -> Mask:
        """The mask of one seed at the chosen level."""
        return Mask(self.tensors(seed)["mask"], self.spec.tied)

    def weights(self, seed: int, role: str = "trained") -> dict[str, Array]:
        """A full state dict of one seed. role: "trained" (masked), "dense", "rewind" or "reinit" (masked)."""
        return self.tensors(seed)[role]

    def save(self) -> None:
        """Write ticket.json; the tensor files must lie there already."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        store.write_json(self.path / "ticket.json", {**content, "id": self.id})

    @classmethod
    def load(cls, path: StrPath) -> Ticket:
        """Read a ticket folder (or its ticket.json). Needs neither PyTorch nor the model's class."""
        file = Path(path)
        folder = file.parent if file.name == "ticket.json" else file
        file = folder / "ticket.json"
        content = store.read_json(file, "ticket", TicketError)
        found = content.pop("id", None)
        ticket = store.decoded(cls, content, file, "ticket", TicketError, path=folder)
        if found != ticket.id:
            raise TicketError(f"ticket {file} was edited: its id is not the hash of its spec", store.MEND["ticket"])
        return ticket


def write_seed(path: Path, seed: int, groups: Mapping[str, Mapping[str, Array]]) -> str:
    """Write seed-N.safetensors from {"mask": ..., "trained": ..., ...} and give its SHA-256."""
    return store.write_tensors(path / f"seed-{seed}.safetensors", store.joined(groups))


def rewind_step(rewind: str, steps_per_epoch: int) -> int:
    """The optimizer step that "init", "N-steps" or "N-epochs" means."""
    if rewind == "init":
        return 0
    match = re.fullmatch(r"(\d+)-(steps|epochs)", rewind)
    if match is None:
        raise TicketError(f"rewind {rewind!r} is unknown", "use init, N-steps or N-epochs, such as 500-steps")
    return int(match[1]) * (1 if match[2] == "steps" else steps_per_epoch)
