"""One artifact on several devices, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeprune.measurement import AGGREGATED, Measurement
from edgeprune.report import units
from edgeprune.report.collection import artifacts_of
from edgeprune.report.native import native_table
from edgeprune.report.tables import Table
from edgeprune.report.timing import speed_words, timing


def devices_table(measured: Mapping[str, Measurement]) -> Table:
    """A row a device; measured: host -> what was measured there."""
    if all(each.kind == AGGREGATED for each in measured.values()):
        table = native_table(measured, [artifact for each in measured.values() for artifact in artifacts_of(each)])
        return replace(table, title="Devices", columns=("Device", *table.columns[1:]))
    rows = []
    for host, measurement in measured.items():
        run = timing(measurement, artifacts_of(measurement))
        found = run.statistics
        rows.append((host, *(units.latency(found[name]) for name in ("p50_ns", "p90_ns", "p99_ns")), speed_words(run)))
    return Table("Devices", ("Device", "p50", "p90", "p99", "Value"), tuple(rows), "measured")
