"""export: a ticket becomes one verified bundle for each runtime and precision of a target, with its dense twin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from edgeprune.artifact import Artifact
from edgeprune.errors import ExportError, VerificationError
from edgeprune.export.build import Cell, Network, bundle
from edgeprune.export.network import reload_data, reload_task
from edgeprune.target import Target
from edgeprune.ticket import Ticket

__all__ = ["ExportOptions", "Refused", "export"]

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


@dataclass(frozen=True)
class Refused:
    """A runtime and precision of the target that no bundle was built for. error: why; a VerificationError for a bundle
    that was built and does not do what the network does."""

    runtime: str
    precision: str
    error: ExportError


def export(
    ticket: Ticket, target: Target, options: ExportOptions, data_dir: Optional[Path], out: Path
) -> Iterator[Union[Artifact, Refused]]:
    """Build every cell in the target's order; yields each dense twin, then the ticket's bundle that refers to it, or
    why there is none.

    In between comes the ticket's portable bundle (NAME-portable: stock operators only), if one is asked for and the
    ticket's own has a library.

    Raises TicketError if the task or its data changed, ExportError (VerificationError) if there is no bundle at all.
    """
    cells = target.cells(options.runtime, options.precision)
    task = reload_task(ticket)
    data = reload_data(ticket, task, data_dir)
    seed = ticket.median_seed if options.seed is None else ticket.record(options.seed).seed
    asked = {"target": target.reference, "max_drop": options.max_drop, "portable": options.portable}
    asked |= {"data_dir": str(data_dir.resolve())} if data_dir else {}
    networks = [Network(ticket, task, data, seed, variant) for variant in ("dense", "ticket")]
    for network in networks:
        _ = network.graph  # what cannot become a graph fails in every cell alike
    refused: list[Refused] = []
    for runtime, precision in cells:
        cell = Cell(target.name, target.arch, runtime, precision, options.max_drop, options=asked)
        folder = out / "artifacts" / f"{ticket.path.name}-seed{seed}-{target.name}-{runtime}-{precision}"
        try:
            yield from _bundles(networks, cell, folder, options.portable)
        except ExportError as problem:
            if len(cells) == 1:
                raise
            refused.append(Refused(runtime, precision, problem))
            yield refused[-1]
    if len(refused) == len(cells):
        broken = any(isinstance(each.error, VerificationError) for each in refused)
        kind, first = VerificationError if broken else ExportError, refused[0].error
        raise kind(f"no bundle could be built for target {target.name}: {first.message}", first.hint)


def _bundles(networks: list[Network], cell: Cell, folder: Path, portable: bool) -> Iterator[Artifact]:
    """The dense twin and the ticket's bundles of one cell; all of them, or none is left."""
    dense, sparse = networks
    names = {role: folder.with_name(f"{folder.name}{role}") for role in ("-dense", "-portable", "")}
    built = []
    try:
        built.append(bundle(dense, cell, names["-dense"], twin=""))
        if portable and sparse.model_file(cell).library:
            built.append(bundle(sparse, replace(cell, stock=True), names["-portable"], twin=names["-dense"].name))
        built.append(bundle(sparse, cell, names[""], twin=names["-dense"].name))
    except ExportError:
        done = {artifact.path for artifact in built}
        for path in names.values():
            if path in done or not (path / "manifest.json").is_file():
                shutil.rmtree(path, ignore_errors=True)
                path.with_name(f"{path.name}.zip").unlink(missing_ok=True)
        raise
    yield from built
