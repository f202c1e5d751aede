"""export: a ticket becomes one verified bundle for each runtime and precision of a target, with its dense twin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from edgeprune import runtimes
from edgeprune.artifact import PORTABLE, Artifact, Asked
from edgeprune.errors import ExportError, VerificationError
from edgeprune.export import place
from edgeprune.export.build import Cell, Network, bundle
from edgeprune.export.files import own_architecture, sparse_kernels
from edgeprune.export.forecast import SPARSITIES, Forecast, LayerForecast, forecast
from edgeprune.export.network import reload_data, reload_task
from edgeprune.export.rehearsal import Rehearsed, rehearse
from edgeprune.export.sparse.clock import Clock
from edgeprune.options import MAX_DROP, ExportOptions, in_metric
from edgeprune.target import Target
from edgeprune.ticket import Ticket

__all__ = [
    "SPARSITIES", "Forecast", "LayerForecast", "Refused", "Rehearsed", "export", "forecast", "rehearse",
]  # fmt: skip


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
    clock = _clock(target, [runtime for runtime, _ in cells], out) if options.measure else None
    task = reload_task(ticket)
    data = reload_data(ticket, task, data_dir)
    seed = ticket.median_seed if options.seed is None else ticket.record(options.seed).seed
    max_drop = _max_drop(ticket, options)
    asked = Asked(target=target.reference, max_drop=max_drop, portable=options.portable)
    if options.measure:
        asked["measure"] = True
    if data_dir:
        asked["data_dir"] = str(data_dir.resolve())
    folders = {
        (runtime, precision): Path(out)
        / "artifacts"
        / f"{ticket.path.name}-seed{seed}-{target.name}-{runtime}-{precision}"
        for runtime, precision in cells
    }
    with place.held(path for folder in folders.values() for path in _places(folder).values()):
        networks = [Network(ticket, task, data, seed, variant) for variant in ("dense", "ticket")]
        # What cannot become a graph fails in every cell alike. The ticket first: it is taken apart before, in float64.
        for network in reversed(networks):
            _ = network.traced
        refused: list[Refused] = []
        for (runtime, precision), folder in folders.items():
            cell = Cell(target.name, target.arch, runtime, precision, max_drop, clock=clock, options=asked)
            try:
                yield from _bundles(networks, cell, folder, options.portable)
            except ExportError as problem:
                if len(cells) == 1:
                    raise
                refused.append(Refused(runtime, precision, problem))
                yield refused[-1]
    if len(refused) == len(cells):
        broken = any(isinstance(refusal.error, VerificationError) for refusal in refused)
        kind, first = VerificationError if broken else ExportError, refused[0].error
        raise kind(f"no bundle could be built for target {target.name}: {first.message}", first.hint)


def _max_drop(ticket: Ticket, options: ExportOptions) -> float:
    """What int8 may cost of the metric."""
    if options.max_drop is None and not ticket.metric.is_share:
        return ticket.verdict.margin
    return in_metric(ticket.metric, "--max-drop", options.max_drop, MAX_DROP)


def _places(folder: Path) -> dict[str, Path]:
    """Of the bundles of one cell."""
    return {role: folder.with_name(f"{folder.name}{role}") for role in ("-dense", PORTABLE, "")}


def _bundles(networks: list[Network], cell: Cell, folder: Path, portable: bool) -> Iterator[Artifact]:
    """The dense twin and the ticket's bundles of one cell: all of them come to their places, or none."""
    dense, sparse = networks
    names = _places(folder)
    built = [bundle(dense, cell, names["-dense"], twin="")]
    if portable and sparse.model_file(cell).library:
        built.append(bundle(sparse, replace(cell, stock=True), names[PORTABLE], twin=names["-dense"].name))
    built.append(bundle(sparse, cell, names[""], twin=names["-dense"].name))
    for artifact in built:
        yield place.put(artifact)


def _clock(target: Target, names: Sequence[str], out: Path) -> Clock:
    """What times kernels on this machine; ExportError where that says nothing about the target, or about these
    runtimes."""
    here = own_architecture()
    if target.arch not in ("any", here):
        raise ExportError(
            f"--measure times kernels on this machine, which is {here}, but target {target.name} is {target.arch}",
            f"export on a machine of that architecture ({target.arch}), or leave --measure out",
        )
    choosing = [name for name in runtimes.names() if runtimes.load(name).TAKES_LIBRARY]
    if not set(choosing) & set(names):
        raise ExportError(
            f"--measure chooses kernels for {', '.join(choosing)}, "
            f"and only {', '.join(dict.fromkeys(names))} is exported",
            "leave --measure out: this runtime chooses its kernels itself",
        )
    kernels = sparse_kernels(target.arch)
    if isinstance(kernels, str):
        raise ExportError(f"--measure has nothing to choose from: {kernels}", "leave --measure out")
    return Clock(kernels.library, out / "measured")
