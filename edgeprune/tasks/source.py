"""The source of a task: what its hash covers, and running a user's code with errors of one line."""

from __future__ import annotations

import ast
import hashlib
import importlib
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import cache_from_source
from pathlib import Path
from types import ModuleType
from typing import Callable, Union

from edgeprune import store
from edgeprune.errors import EdgepruneError, TaskError

_OWN_FOLDER = Path(__file__).parents[1]
_MESSAGE_LENGTH = 300
WHOLE = "edgeprune --debug COMMAND shows the whole traceback"


def source_sha256(main: Path, root: Path, counts: Callable[[str], bool]) -> str:
    """SHA-256 over the names (relative to `root`) and contents of `source_files`."""
    digest = hashlib.sha256()
    for path in source_files(main, root, counts):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def source_files(main: Path, root: Path, counts: Callable[[str], bool]) -> list[Path]:
    """`main` and all modules below `root` that it imports, at the top or inside a function, directly or through one
    another, as far as the text names them. `counts` says which dotted names do."""
    found = {main}
    queue = [main]
    while queue:
        path = queue.pop()
        for parts in (name.split(".") for name in _imported(path, root)):
            # Importing a.b.c runs a and a.b as well.
            for end in range(1, len(parts) + 1):
                stem = root.joinpath(*parts[:end])
                for file in (stem.with_suffix(".py"), stem / "__init__.py"):
                    if file not in found and counts(".".join(parts[:end])) and file.is_file():
                        found.add(file)
                        queue.append(file)
    return sorted(found)


def is_foreign(name: str) -> bool:
    """True for a module that is not edgeprune's own: its code is no part of a user's task."""
    return name.split(".")[0] != "edgeprune"


def _imported(path: Path, root: Path) -> set[str]:
    """Dotted names, from `root`, of everything that a file's import statements may mean."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    folder = path.relative_to(root).parent.parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            base = (*above, *([node.module] if node.module else []))
            names.update(".".join((*base, alias.name)) for alias in node.names if alias.name != "*")
            names.add(".".join(base))
    return names - {""}


def import_file(path: Path) -> ModuleType:
    """Run a task file as a module of a name of its own, with its folder importable.

    Its neighbours are imported afresh: those of another task's folder, or an older text, may be loaded already.
    """
    for neighbour in source_files(path, path.parent, is_foreign):
        if neighbour != path:
            parts = neighbour.relative_to(path.parent).with_suffix("").parts
            sys.modules.pop(".".join(parts[:-1] if parts[-1] == "__init__" else parts), None)
            # Compiled code counts as fresh if second and size are the same, which an edit may leave as they are.
            with suppress(OSError):
                Path(cache_from_source(str(neighbour))).unlink(missing_ok=True)
    linecache.checkcache()
    module = ModuleType("edgeprune_task_" + store.sha256_bytes(str(path).encode())[:12])
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    with _first_on_path(path.parent), user_code(f"task file {path} does not import"):
        # Compiled here and not by the import system, so that what runs is what was hashed and no stale cache.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def import_module(name: str) -> ModuleType:
    """Import an installed module, or one below the current folder."""
    with _first_on_path(Path.cwd()), user_code(f"task module {name} does not import"):
        return importlib.import_module(name)


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    """The folder first on sys.path inside; afterwards last, for the imports inside a task's functions."""
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


@contextmanager
def user_code(what: Union[str, Callable[[], str]], always: bool = True) -> Iterator[None]:
    """Around a user's code: whatever that raises becomes a TaskError of one line, `what` (which may be made when it is
    needed) and then file, line and exception. Errors of edgeprune's own pass through.

    always: False leaves alone what neither passed through a file of the user's nor is `sys.exit`."""
    try:
        yield
    except (EdgepruneError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as problem:
        if not (always or isinstance(problem, SystemExit) or _place(problem)):
            raise
        told = what if isinstance(what, str) else what()
        raise TaskError(f"{told}: {_described(problem)}", WHOLE) from problem


def _described(problem: BaseException) -> str:
    text = " ".join((problem.msg if isinstance(problem, SyntaxError) else str(problem)).split())
    if len(text) > _MESSAGE_LENGTH:
        text = text[:_MESSAGE_LENGTH] + "..."
    what = f"{type(problem).__name__}: {text}" if text else type(problem).__name__
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{Path(problem.filename).name}, line {problem.lineno}: {what}"
    place = _place(problem)
    return f"{place}: {what}" if place else what


def _place(problem: BaseException) -> str:
    """Where in the user's files an exception came from: "task.py, line 3", or ""."""
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        if _is_users(frame.filename):
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""


def _is_users(filename: str) -> bool:
    """True for a file that is neither edgeprune's nor Python's nor installed."""
    folders = (str(_OWN_FOLDER), sysconfig.get_path("stdlib"))
    return (
        filename.endswith(".py")
        and not any(filename.startswith(f"{folder}/") for folder in folders)
        and not {"site-packages", "dist-packages"} & set(Path(filename).parts)
    )
