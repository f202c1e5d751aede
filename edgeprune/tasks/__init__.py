"""What to train: the built-in tasks, one file a data set, and those of users.

A task's name is that of a function which returns a Task, with `-` for `_`; a built-in one stands in `__all__` of a
module of this folder. A user's is written `file.py:function` or `package.module:function`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Optional

from edgeprune.errors import TaskError, nearest
from edgeprune.task import Data, Task
from edgeprune.tasks import source
from edgeprune.tasks.hooks import guarded, kind_of
from edgeprune.tasks.plain import plain_weights
from edgeprune.tasks.reads import Reads
from edgeprune.tasks.seeds import derived_seed, seed_all
from edgeprune.tasks.trial import check

__all__ = ["LoadedTask", "check", "data_sha256", "load", "load_data", "names"]

_OWN_ROOT = Path(__file__).parents[2]
_MOST_NAMED = 20
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class LoadedTask:
    """A task and where it came from.

    reference: a built-in's name, or what the user wrote. file: absolute path of a user's task file, None for others.
    source_sha256: of the task's source and of the neighbours that it imports; sources: these files, the task's first,
    for a user's task. reads: the files that its code opens.
    """

    task: Task
    reference: str
    file: Optional[Path]
    source_sha256: str
    sources: tuple[Path, ...] = ()
    reads: Reads = field(default_factory=Reads, compare=False)

    def files(self, data_dir: Optional[Path] = None) -> dict[str, str]:
        """Name -> SHA-256 of what its code has read so far, its source apart: while it was imported and made the model
        by name, while it made the data with "data/" before the name. A built-in's data are known by their hash."""
        if not self.sources:
            return {}
        here = self.sources[0].parent
        found = {**self.reads.hashes("import", here, self.sources), **self.reads.hashes("model", here, self.sources)}
        data = self.reads.hashes("data", data_dir or here, self.sources)
        return {**found, **{f"data/{name}": sha256 for name, sha256 in data.items()}}


def names() -> list[str]:
    """Names of the built-in tasks."""
    return sorted(_built_in())


def load(reference: str) -> LoadedTask:
    """A task from its name, `file.py:function` or `package.module:function`. Its models have plain weights: see
    `tasks.plain`.

    TaskError if there is none of that name, if its file does not import, or if its function is missing, fails or
    returns anything but a Task.
    """
    loaded = _load(reference)
    task = loaded.task
    folded = dataclasses.replace(task, model=lambda: plain_weights(task.model()))
    return dataclasses.replace(loaded, task=folded)


def _load(reference: str) -> LoadedTask:
    place, colon, function = reference.rpartition(":")
    if not colon:
        return _load_built_in(reference)
    if not place or not function:
        raise TaskError(f"task {reference!r} is incomplete", "write file.py:function or package.module:function")
    if place.endswith(".py") or "/" in place:
        return _load_file(reference, Path(place).expanduser().absolute(), function)
    return _load_module(reference, place, function)


def load_data(task: Task, data_dir: Optional[Path]) -> Data:
    """A task's data, under one seed of their own: what is drawn from the global generators is the same in every run, in
    `find` and in `export`. Leaves the generators seeded."""
    seed_all(derived_seed("data"))
    return task.data(data_dir)


def data_sha256(data: Data) -> str:
    """SHA-256 over type, shape and content of all splits' inputs and targets."""
    import torch

    digest = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        for tensor in (*split.arguments, split.targets):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_built_in(name: str) -> LoadedTask:
    known = _built_in()
    found = known.get(name) or {_plain(other): made for other, made in known.items()}.get(_plain(name))
    if found is None:
        if name.endswith(".py"):
            raise TaskError(f"task {name!r} names a file but no function", f"write {name}:function")
        if Path(name).with_suffix(".py").is_file():
            raise TaskError(f"unknown task {name!r}", f"for a task of your own write {name}.py:function")
        raise TaskError(f"unknown task {name!r}", nearest(name, known))
    module, function = found
    task: Task = guarded(getattr(module, function)())
    path = Path(str(module.__file__))
    return LoadedTask(task, task.name, None, source.source_sha256(path, _OWN_ROOT, _is_built_in))


def _built_in() -> dict[str, tuple[ModuleType, str]]:
    """Task name -> its module and function: those in the modules' `__all__` that are declared to return a Task."""
    found: dict[str, tuple[ModuleType, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem == "__init__":
            continue
        module = importlib.import_module(f"{__name__}.{path.stem}")
        for function in getattr(module, "__all__", ()):
            made = getattr(module, function)
            if inspect.isfunction(made) and made.__annotations__.get("return") in ("Task", Task):
                found[made().name] = module, function
    return found


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _load_file(reference: str, path: Path, function: str) -> LoadedTask:
    if not path.is_file():
        here = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise TaskError(
            f"no file {path}", nearest(path.name, here) if 0 < len(here) <= _MOST_NAMED else "check the path"
        )
    sha256 = source.source_sha256(path, path.parent, source.is_foreign)
    sources = (path, *source.source_files(path, path.parent, source.is_foreign))
    reads = Reads()
    with reads.recording("import"):
        task = _call(source.import_file(path), function, reference)
    return LoadedTask(task, reference, path, sha256, sources, reads)


def _load_module(reference: str, name: str, function: str) -> LoadedTask:
    reads = Reads()
    with reads.recording("import"):
        module = source.import_module(name)
    path, parts = Path(str(getattr(module, "__file__", None))), name.split(".")
    if path.suffix != ".py":
        raise TaskError(f"task {reference}: module {name} has no source file", "write package.module:function")
    with reads.recording("import"):
        task = _call(module, function, reference)
    root = path.parents[len(parts) if path.stem == "__init__" else len(parts) - 1]
    alone = len(parts) == 1 and path.stem != "__init__" and root.name not in _INSTALLED
    counts = _is_built_in if _is_built_in(name) else source.is_foreign if alone else _in_package(parts[0])
    sources = () if _is_built_in(name) else (path, *source.source_files(path, root, counts))
    return LoadedTask(task, reference, None, source.source_sha256(path, root, counts), sources, reads)


def _is_built_in(name: str) -> bool:
    return name.startswith(f"{__name__}.")


def _in_package(package: str) -> Callable[[str], bool]:
    return lambda name: name.split(".")[0] == package


def _call(module: ModuleType, function: str, reference: str) -> Task:
    """The Task that a user's function returns, with its functions guarded."""
    where = Path(str(module.__file__)).name
    made = getattr(module, function, None)
    if not callable(made):
        own = [name for name, value in vars(module).items() if inspect.isfunction(value) and name[0] != "_"]
        what = (
            f"has no function {function!r}"
            if made is None
            else f"{function!r} is of type {kind_of(made)}, not a function"
        )
        raise TaskError(f"{where} {what}", nearest(function, own) if own else "define one that returns a Task")
    with source.user_code(f"task {reference} failed"):
        task = made()
    if not isinstance(task, Task):
        raise TaskError(f"task {reference} returned {kind_of(task)}, expected an edgeprune.Task")
    return guarded(task)
