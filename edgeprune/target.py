"""A target: the device that an artifact is built for, read from one TOML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from edgeprune import connections, runtimes, typed
from edgeprune.errors import TargetError, nearest
from edgeprune.store import StrPath, read_file

LARGEST = 1 << 20  # bytes of a file
SEE = "docs/targets.md describes the file"


@dataclass(frozen=True)
class PayingPattern:
    """A pattern that a runtime runs faster than dense, from this sparsity (share of zeros) on."""

    pattern: str
    from_sparsity: float
    why: str

    def __post_init__(self) -> None:
        if not 0 <= self.from_sparsity < 1:
            raise TargetError(f"from_sparsity must lie in [0, 1), got {self.from_sparsity}")


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime that the target has, its precisions in order of preference and the patterns that pay off there.

    providers: ONNX Runtime's execution providers in order of preference, where its build offers them; the CPU is always
    the last.
    """

    name: str
    precisions: tuple[str, ...]
    patterns: tuple[PayingPattern, ...] = ()
    providers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.precisions or set(self.precisions) - {"fp32", "int8"}:
            raise TargetError(f"precisions of {self.name} must be fp32, int8 or both, got {list(self.precisions)}")
        if self.providers and not runtimes.load(self.name).PROVIDERS:
            some = [name for name in runtimes.names() if runtimes.load(name).PROVIDERS]
            raise TargetError(f"{self.name} has no providers, only {', '.join(some)} has some")


@dataclass(frozen=True)
class Target:
    """One device. threads: that the runtime gets. runtimes: in order of preference. sensors: names of what bench
    reads before and after each block. connection: a name of `connections`. memory_bytes: 0 where it is not known.
    governor and frequency_khz (of the fastest group of cores): that a measurement needs, "" and 0 where any will do.
    file: the TOML file of a target of one's own, absolute, or "" for a built-in one.
    """

    name: str
    description: str
    os: str
    arch: str
    cpu: str
    cores: int
    features: tuple[str, ...]
    memory_bytes: int
    threads: int
    runtimes: tuple[RuntimeChoice, ...]
    connection: str
    sensors: tuple[str, ...]
    budgets: Mapping[str, Any]
    governor: str = ""
    frequency_khz: int = 0
    file: str = ""

    def __post_init__(self) -> None:
        known = connections.names()
        if self.connection not in known:
            raise TargetError(f"connection {self.connection!r} is unknown", nearest(self.connection, known))
        for name, least in (("threads", 1), ("cores", 0), ("memory_bytes", 0), ("frequency_khz", 0)):
            if getattr(self, name) < least:
                raise TargetError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for sensor, needed in (("governor", self.governor), ("frequency", self.frequency_khz)):
            if needed and sensor not in self.sensors:
                raise TargetError(f'{sensor} {needed!r} cannot be checked: add "{sensor}" to its sensors')

    @property
    def reference(self) -> str:
        """What `--target` takes to mean this target, whatever the working directory."""
        return self.file or self.name

    def providers(self, runtime: str) -> tuple[str, ...]:
        """The execution providers to ask a runtime for, in order of preference; none where the CPU alone is meant."""
        return next((choice.providers for choice in self.runtimes if choice.name == runtime), ())

    @property
    def paying(self) -> list[PayingPattern]:
        """The patterns that pay off on this target, in its order of runtimes."""
        return [pattern for runtime in self.runtimes for pattern in runtime.patterns]

    def cells(self, runtime: Optional[str] = None, precision: Optional[str] = None) -> list[tuple[str, str]]:
        """(runtime, precision) pairs to build, narrowed by the arguments; TargetError if nothing is left."""
        names = [choice.name for choice in self.runtimes]
        if runtime is not None and runtime not in names:
            raise TargetError(f"target {self.name} has no runtime {runtime!r}", nearest(runtime, names))
        chosen = [choice for choice in self.runtimes if runtime in (None, choice.name)]
        pairs = [
            (choice.name, offered) for choice in chosen for offered in choice.precisions if precision in (None, offered)
        ]
        if not pairs:
            known = {offered for choice in chosen for offered in choice.precisions}
            there = f" for {runtime}" if runtime else ""
            raise TargetError(
                f"target {self.name} has no precision {precision!r}{there}", nearest(str(precision), known)
            )
        return pairs


def targets_folder() -> Path:
    """The folder of the built-in targets: inside the installed package, or at the top of a source checkout."""
    inside = Path(__file__).parent / "targets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "targets"


def target_names() -> list[str]:
    """Names of the built-in targets."""
    return sorted(path.stem for path in targets_folder().glob("*.toml"))


def load_target(reference: StrPath) -> Target:
    """A target from a built-in name or a path to a TOML file of one's own."""
    path, name = Path(reference), os.fspath(reference)
    if path.suffix == ".toml" or os.sep in name:
        if not path.exists():
            raise TargetError(f"no target file at {name}", "name a TOML file or one of: " + ", ".join(target_names()))
        return replace(parse_target(path), file=str(path.resolve()))
    if name not in target_names():
        raise TargetError(f"unknown target {name!r}", nearest(name, target_names()))
    return parse_target(targets_folder() / f"{name}.toml")


@dataclass(frozen=True)
class _Machine:
    """The table [machine] of a file."""

    os: str
    arch: str
    cpu: str
    cores: int
    features: tuple[str, ...] = ()
    memory_bytes: int = 0


@dataclass(frozen=True)
class _File:
    """A target as its file has it: the fields of `Target`, those of the machine in a table of their own."""

    description: str
    connection: str
    machine: _Machine
    runtimes: tuple[RuntimeChoice, ...]
    threads: int = 1
    sensors: tuple[str, ...] = ()
    budgets: Mapping[str, Any] = field(default_factory=dict)
    governor: str = ""
    frequency_khz: int = 0

    def __post_init__(self) -> None:
        if not self.runtimes:
            raise TargetError("[[runtimes]] must have at least one entry")


def parse_target(path: StrPath) -> Target:
    """Read one TOML file; TargetError names the file and the key that is missing, unknown or of the wrong type."""
    path = Path(path)
    data = read_file(path, "target", TargetError, SEE, LARGEST)
    try:
        found = typed.decode(_File, typed.parse_toml(data))
        fields = {name: value for name, value in vars(found).items() if name != "machine"}
        return Target(name=path.stem, **fields, **vars(found.machine))
    except ModuleNotFoundError:
        raise TargetError("reading a target needs Python 3.11 or newer", "run this command on the host") from None
    except (typed.WrongContent, TargetError) as problem:
        raise TargetError(f"target {path}: {problem}", SEE) from None
