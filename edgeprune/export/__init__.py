"""export: a ticket becomes one verified bundle for each runtime and precision of a target, with its dense twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from edgeprune.artifact import Artifact
from edgeprune.export.build import Cell, Network, bundle
from edgeprune.export.network import reload_data, reload_task
from edgeprune.target import Target
from edgeprune.ticket import Ticket

__all__ = ["ExportOptions", "export"]

MAX_DROP = 0.01


@dataclass(frozen=True)
class ExportOptions:
    """What narrows or steers an export. runtime, precision: None for all that the target lists; seed: None for the one
    with the median validation metric; max_drop: of the metric, as a fraction, that int8 may cost; portable: write each
    bundle that needs a library of operators a second time without."""

    runtime: Optional[str] = None
    precision: Optional[str] = None
    seed: Optional[int] = None
    max_drop: float = MAX_DROP
    portable: bool = False


def export(
    ticket: Ticket, target: Target, options: ExportOptions, data_dir: Optional[Path], out: Path
) -> Iterator[Artifact]:
    """Build every cell in the target's order; yields each dense twin, then the ticket's bundle that refers to it.

    In between comes the ticket's portable bundle (NAME-portable: stock operators only), if one is asked for and the
    ticket's own has a library.

    Raises TicketError if the task or its data changed, ExportError for what cannot be converted, VerificationError
    for a bundle that does not do what the ticket does.
    """
    cells = target.cells(options.runtime, options.precision)
    task = reload_task(ticket)
    data = reload_data(ticket, task, data_dir)
    seed = ticket.median_seed if options.seed is None else ticket.record(options.seed).seed
    asked = {"target": target.reference, "max_drop": options.max_drop, "portable": options.portable}
    asked |= {"data_dir": str(data_dir.resolve())} if data_dir else {}
    dense, sparse = (Network(ticket, task, data, seed, variant) for variant in ("dense", "ticket"))
    for runtime, precision in cells:
        cell = Cell(target.name, target.arch, runtime, precision, options.max_drop, options=asked)
        name = f"{ticket.path.name}-seed{seed}-{target.name}-{runtime}-{precision}"
        folder = out / "artifacts" / name
        twin = bundle(dense, cell, folder.with_name(f"{name}-dense"), twin="")
        yield twin
        if options.portable and sparse.model_file(cell).library:
            stock = replace(cell, stock=True)
            yield bundle(sparse, stock, folder.with_name(f"{name}-portable"), twin=twin.path.name)
        yield bundle(sparse, cell, folder, twin=twin.path.name)
