"""The networks of the zoo, one file a family, found by listing this folder. Each file has

NETWORKS      dict[str, Callable[[], Entry]]: name -> a function that draws the network and its inputs
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from edgeprune.errors import EdgepruneError
from lab.zoo.entry import Entry


def modules() -> list[str]:
    """The families' modules."""
    return [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]


def factories() -> dict[str, tuple[str, Callable[[], Entry]]]:
    """Name -> its family and the function that makes it. EdgepruneError for a name that two families have."""
    known: dict[str, tuple[str, Callable[[], Entry]]] = {}
    for path in sorted(modules()):
        module: Any = importlib.import_module(path)
        family = path.rpartition(".")[2]
        for name, make in module.NETWORKS.items():
            if name in known:
                raise EdgepruneError(f"two families of the zoo, {known[name][0]} and {family}, have a network {name}")
            known[name] = family, make
    return known
