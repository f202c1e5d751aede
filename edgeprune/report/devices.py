"""One artifact on several devices, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeprune.measurement import Aggregated, Measurement, timed
from edgeprune.report import units
from edgeprune.report.collection import artifacts_of
from edgeprune.report.native import native_table
from edgeprune.report.tables import Table
from edgeprune.report.timing import speed_words, timing


def devices_table(measured: Mapping[str, Measurement]) -> Table:
    """A row a device; measured: host -> what was measured there."""
    native = {host: each for host, each in measured.items() if isinstance(each, Aggregated)}
    if len(native) == len(measured):
        table = native_table(native, [artifact for each in native.values() for artifact in artifacts_of(each)])
        return replace(table, title="Devices", columns=("Device", *table.columns[1:]))
    rows = []
    for host, measurement in measured.items():
        run = timing(timed(measurement), artifacts_of(measurement))
        side = run.summary.artifact
        rows.append((host, *map(units.latency, (side.p50_ns, side.p90_ns, side.p99_ns)), speed_words(run)))
    return Table("Devices", ("Device", "p50", "p90", "p99", "Value"), tuple(rows), "measured")
