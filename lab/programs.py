"""Other programs that the laboratory starts: commands of edgeprune, and modules of its own in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Union

from edgeprune.errors import EdgepruneError

ROOT = Path(__file__).parents[1]
Argument = Union[str, Path]


def edgeprune(*arguments: Argument) -> Path:
    """Run `edgeprune ARGUMENTS`; the first path that it prints. What it says goes to stderr."""
    return Path(python("edgeprune", *arguments).partition("\n")[0])


def python(module: str, *arguments: Argument) -> str:
    """Run `python -m MODULE ARGUMENTS` in this Python; what it prints, EdgepruneError if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(), check=False)
    if done.returncode:
        raise EdgepruneError(f"{' '.join([module, *map(str, arguments[:2])])} failed", "the lines above say why")
    return done.stdout.strip()


def environment() -> dict[str, str]:
    """This process's variables, for a process that imports from the checkout."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *others])}
