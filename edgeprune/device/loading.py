"""Why a package or a library does not load: not installed, or installed and broken, in which way, and what helps."""

from __future__ import annotations

import importlib
import platform
import re
from typing import Any

from . import Failure


class NotInstalled(Failure):
    """A package that is not there, told from one that is there and does not work."""


UNKNOWN = "cannot be loaded"
OLDER = "install an older release of {package}, or a newer system"
# What a loader says -> what it means -> what to do; the names in braces are filled in.
LOADING = (
    (
        r"_ARRAY_API|multiarray failed to import|numpy\.dtype size changed|compiled (?:using|against) (?:NumPy|A[PB]I)",
        "was built for another NumPy than the one here",
        "run: pip install --upgrade {package} numpy, and if that does not help: pip install 'numpy<2'",
    ),
    (
        r"((?:GLIBCXX|CXXABI)_[\d.]+)",
        "needs a newer C++ library than this system's ({0})",
        OLDER,
    ),
    (
        r"(GLIBC_[\d.]+)",
        "needs a newer system than this one ({0})",
        OLDER,
    ),
    (
        r"failed to map segment|Operation not permitted",
        "lies on a disk from which nothing may be run (mounted noexec)",
        "put it on another disk: a virtual environment elsewhere, TMPDIR for what bench sends (mount | grep noexec)",
    ),
    (
        # Of another processor's library, named by its path, the dynamic loader says that it does not exist.
        r"wrong ELF class|invalid ELF header|file too short|Exec format error|/\S+: cannot open shared object file",
        "is built for another processor than this {machine}, or damaged",
        "run: pip install --force-reinstall --no-cache-dir {package}",
    ),
    (
        r"([^\s:/]+): cannot open shared object file",
        "needs the system's library {0}, which is missing",
        "install it: on Debian the package that apt-file search {0} names",
    ),
    (
        r"undefined symbol",
        "does not match another package that it uses",
        "run: pip install --force-reinstall --no-cache-dir {package}",
    ),
    (r"Permission denied", "may not be read by this user", "let this user read it (ls -l shows who may)"),
    (r"annot allocate memory", "does not fit into memory", "close other programs"),
)


def import_module(package: str, module: str, where: str = "") -> Any:
    """A module of a package; Failure that says why there is none (where: in which place), and what helps."""
    try:
        return importlib.import_module(module)
    except Exception as problem:  # noqa: BLE001  a broken installation may raise anything
        means, step = import_problem(package, module, problem)
        said = str(problem).strip().partition("\n")[0]
        kind = NotInstalled if _is_absent(module, problem) else Failure
        raise kind(f"{package} {means}{where} ({said or type(problem).__name__})", step) from None


def _is_absent(module: str, problem: BaseException) -> bool:
    return isinstance(problem, ModuleNotFoundError) and problem.name == module.split(".")[0]


def loading_problem(package: str, text: str) -> tuple[str, str]:
    """What a loader's words about a package or a library mean, and the next step."""
    for sign, meaning, step in LOADING:
        found = re.search(sign, text)
        if found:
            names = {"package": package, "machine": platform.machine()}
            return meaning.format(*found.groups(), **names), step.format(*found.groups(), **names)
    return UNKNOWN, f"run: pip install --force-reinstall --no-cache-dir {package}"


def import_problem(package: str, module: str, problem: BaseException) -> tuple[str, str]:
    """What an import of a package's module that failed means, and the next step: what is not installed is told from
    what is there and does not work."""
    top, lacking = module.split(".")[0], getattr(problem, "name", None) or ""
    if _is_absent(module, problem):
        return "is not installed", f"run: pip install {package}"
    if isinstance(problem, ModuleNotFoundError) and lacking and lacking.split(".")[0] != top:
        return f"is installed, but not {lacking}, which it needs", f"run: pip install {lacking.split('.')[0]}"
    if isinstance(problem, ModuleNotFoundError):
        means, step = "is installed for another Python or processor", ""
    elif isinstance(problem, SyntaxError):
        means, step = f"is installed, but not for Python {platform.python_version()}", ""
    else:
        means, step = loading_problem(package, str(problem))
        means = f"is installed, but {means}"
    return means, step or f"run: pip install --force-reinstall --no-cache-dir {package}"
