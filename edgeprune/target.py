"""A target: the device that an artifact is built for, read from one TOML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from edgeprune.errors import TargetError, nearest


@dataclass(frozen=True)
class PayingPattern:
    """A pattern that a runtime runs faster than dense, from this sparsity (share of zeros) on."""

    pattern: str
    from_sparsity: float
    why: str


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime that the target has, its precisions in order of preference and the patterns that pay off there.

    providers: ONNX Runtime's execution providers in order of preference, where its build offers them; the CPU is always
    the last.
    """

    name: str
    precisions: tuple[str, ...]
    patterns: tuple[PayingPattern, ...]
    providers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One device. threads: that the runtime gets. runtimes: in order of preference. sensors: names of what bench
    reads before and after each block. connection: "local", "ssh" or "adb". memory_bytes: 0 where it is not known.
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

    @property
    def reference(self) -> str:
        """What `--target` takes to mean this target, whatever the working directory."""
        return self.file or self.name

    def providers(self, runtime: str) -> tuple[str, ...]:
        """The execution providers to ask a runtime for, in order of preference; none where the CPU alone is meant."""
        return next((choice.providers for choice in self.runtimes if choice.name == runtime), ())

    def first_paying_pattern(self) -> Optional[PayingPattern]:
        """The first pattern that pays off on this target, in its order of runtimes, or None."""
        return next((pattern for runtime in self.runtimes for pattern in runtime.patterns), None)

    def cells(self, runtime: Optional[str] = None, precision: Optional[str] = None) -> list[tuple[str, str]]:
        """(runtime, precision) pairs to build, narrowed by the arguments; TargetError if nothing is left."""
        names = [choice.name for choice in self.runtimes]
        if runtime is not None and runtime not in names:
            raise TargetError(f"target {self.name} has no runtime {runtime!r}", nearest(runtime, names))
        chosen = [choice for choice in self.runtimes if runtime in (None, choice.name)]
        pairs = [(choice.name, each) for choice in chosen for each in choice.precisions if precision in (None, each)]
        if not pairs:
            known = {each for choice in chosen for each in choice.precisions}
            raise TargetError(
                f"target {self.name} has no precision {precision!r} there", nearest(str(precision), known)
            )
        return pairs


def targets_folder() -> Path:
    """The folder of the built-in targets: inside the installed package, or at the top of a source checkout."""
    inside = Path(__file__).parent / "targets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "targets"


def target_names() -> list[str]:
    """Names of the built-in targets."""
    return sorted(path.stem for path in targets_folder().glob("*.toml"))


def load_target(reference: str) -> Target:
    """A target from a built-in name or a path to a TOML file of one's own."""
    path = Path(reference)
    if path.suffix == ".toml" or os.sep in reference:
        if not path.is_file():
            raise TargetError(
                f"no target file at {reference}", "name a TOML file or one of: " + ", ".join(target_names())
            )
        return replace(parse_target(path), file=str(path.resolve()))
    if reference not in target_names():
        raise TargetError(f"unknown target {reference!r}", nearest(reference, target_names()))
    return parse_target(targets_folder() / f"{reference}.toml")


def parse_target(path: Path) -> Target:
    """Read one TOML file; TargetError names the file and the key that is missing, unknown or of the wrong type."""
    try:
        import tomllib
    except ModuleNotFoundError:
        raise TargetError("reading a target needs Python 3.11 or newer", "run this command on the host") from None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise TargetError(f"target {path} is not valid TOML: {problem}", "mend the line named") from None
    reader = _Reader(path, content)
    target = _target(path.stem, reader)
    reader.finish()
    return target


def _target(name: str, top: _Reader) -> Target:
    machine = top.table("machine")
    runtimes = tuple(_runtime(entry) for entry in top.tables("runtimes"))
    if not runtimes:
        raise TargetError(f"target {top.path}: [[runtimes]] must have one entry at least")
    target = Target(
        name=name,
        description=top.get("description", str),
        os=machine.get("os", str),
        arch=machine.get("arch", str),
        cpu=machine.get("cpu", str),
        cores=machine.get("cores", int),
        features=machine.texts("features", []),
        memory_bytes=machine.get("memory_bytes", int, 0),
        threads=top.get("threads", int, 1),
        runtimes=runtimes,
        connection=top.get("connection", str),
        sensors=top.texts("sensors", []),
        budgets=top.get("budgets", dict, {}),
        governor=top.get("governor", str, ""),
        frequency_khz=top.get("frequency_khz", int, 0),
    )
    machine.finish()
    if target.connection not in ("local", "ssh", "adb"):
        raise TargetError(f"target {top.path}: connection {target.connection!r} is unknown", "use local, ssh or adb")
    if target.threads < 1 or target.cores < 0 or target.memory_bytes < 0 or target.frequency_khz < 0:
        raise TargetError(
            f"target {top.path}: threads must be 1 or more, cores, memory_bytes and frequency_khz 0 or more"
        )
    for sensor, needed in (("governor", target.governor), ("frequency", target.frequency_khz)):
        if needed and sensor not in target.sensors:
            raise TargetError(
                f"target {top.path}: {sensor} {needed!r} cannot be checked", f'add "{sensor}" to its sensors'
            )
    return target


def _runtime(entry: _Reader) -> RuntimeChoice:
    patterns = []
    for row in entry.tables("patterns"):
        sparsity = float(row.get("from_sparsity", (int, float)))
        if not 0 <= sparsity < 1:
            raise TargetError(f"target {entry.path}: from_sparsity must lie in [0, 1), got {sparsity}")
        patterns.append(PayingPattern(row.get("pattern", str), sparsity, row.get("why", str)))
        row.finish()
    name, precisions, providers = entry.get("name", str), entry.texts("precisions"), entry.texts("providers", [])
    choice = RuntimeChoice(name, precisions, tuple(patterns), providers)
    if not choice.precisions or set(choice.precisions) - {"fp32", "int8"}:
        raise TargetError(f"target {entry.path}: precisions of {choice.name} must be fp32 and/or int8")
    if choice.providers and choice.name != "onnxruntime":
        raise TargetError(f"target {entry.path}: {choice.name} has no providers", "only onnxruntime has some")
    entry.finish()
    return choice


class _Reader:
    """Takes typed keys from a TOML table and remembers which are left, so that a misspelt key is an error."""

    def __init__(self, path: Path, content: Mapping[str, Any], where: str = "") -> None:
        self.path = path
        self._left = dict(content)
        self._where = where

    def get(self, key: str, kind: Any, default: Any = None) -> Any:
        if key not in self._left:
            if default is None:
                raise TargetError(f"target {self.path}: {self._where}{key} is missing")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            names = getattr(kind, "__name__", "number")
            raise TargetError(f"target {self.path}: {self._where}{key} must be {names}, got {value!r}")
        return value

    def texts(self, key: str, default: Any = None) -> tuple[str, ...]:
        values = self.get(key, list, default)
        if any(not isinstance(value, str) for value in values):
            raise TargetError(f"target {self.path}: {self._where}{key} must be a list of strings, got {values!r}")
        return tuple(values)

    def table(self, key: str) -> _Reader:
        return _Reader(self.path, self.get(key, dict), f"{self._where}{key}.")

    def tables(self, key: str) -> list[_Reader]:
        rows = self.get(key, list, [])
        if any(not isinstance(row, dict) for row in rows):
            raise TargetError(f"target {self.path}: {self._where}{key} must be an array of tables ([[{key}]])")
        return [_Reader(self.path, row, f"{self._where}{key}[{index}].") for index, row in enumerate(rows)]

    def finish(self) -> None:
        if self._left:
            known = sorted(self._left)[0]
            raise TargetError(f"target {self.path}: unknown key {self._where}{known}", "see docs/targets.md")
