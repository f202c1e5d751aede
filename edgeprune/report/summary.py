"""What `edgeprune inspect --json` prints: each noun as a dictionary of plain JSON values, metrics as fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Union

from edgeprune.artifact import Artifact
from edgeprune.energy import energy
from edgeprune.measurement import Aggregated, Emulated, Measurement, Timed, timed
from edgeprune.report.collection import Noun
from edgeprune.report.curve import levels_of
from edgeprune.report.runs import Run, layer_times, machine_words
from edgeprune.ticket import Ticket


def summary(noun: Noun, bundles: Sequence[Artifact] = ()) -> dict[str, Any]:
    """The dictionary of any of the three nouns. bundles: that a measurement ran, for what the export expected of its
    layers."""
    if isinstance(noun, Ticket):
        return ticket_summary(noun)
    if isinstance(noun, Artifact):
        return artifact_summary(noun)
    if isinstance(noun, Emulated):
        return count_summary(noun)
    return native_summary(noun) if isinstance(noun, Aggregated) else measurement_summary(timed(noun), bundles)


def ticket_summary(ticket: Ticket) -> dict[str, Any]:
    """A ticket: density and level chosen, levels with the validation metric over seeds, test metrics, verdict, spec."""
    chosen = ticket.verdict.level
    return {
        "noun": "ticket",
        "path": str(ticket.path),
        "id": ticket.id,
        "task": ticket.task_name,
        "pattern": ticket.spec.pattern,
        "metric": ticket.metric_name,
        "smaller_is_better": ticket.smaller_is_better,
        "metric_unit": ticket.metric_unit,
        "parameters": ticket.parameters,
        "density": ticket.verdict.density,
        "level": chosen,
        "levels": [
            {
                "level": level.level,
                "density": level.density,
                "validation": {"mean": level.mean, "min": level.low, "max": level.high},
                "seeds": level.seeds,
            }
            for level in levels_of(ticket)
        ],
        "verdict": asdict(ticket.verdict),
        "seeds": {
            str(record.seed): {
                "test": dict(record.test),
                "validation": record.levels[chosen].validation,
                "dense_validation": record.levels[0].validation,
                "reinit_validation": record.reinit_validation,
                "densities": dict(record.levels[chosen].densities),
            }
            for record in ticket.seeds
        },
        "median_seed": ticket.median_seed,
        "spec": asdict(ticket.spec),
    }


def artifact_summary(artifact: Artifact) -> dict[str, Any]:
    """An artifact: what it was built for, its parity, metrics, sizes and the zero certificate."""
    return {
        "noun": "artifact",
        "path": str(artifact.origin),
        **artifact.content(),
        "model_bytes": artifact.model_bytes,
        "density": artifact.density,
        "zeros_lost": artifact.zeros_lost,
        "zeros_gained": artifact.zeros_gained,
        "parity_relative": artifact.parity_relative,
    }


def measurement_summary(measurement: Timed, bundles: Sequence[Artifact]) -> dict[str, Any]:
    """A measurement: all that its summary holds (`against` holds the same for what it
    was compared with, `ratio` how many times as fast the artifact is), its layers with predicted and measured gain, the
    energy of an inference (see `edgeprune.energy.Energy`; "absent" where the device measures no power), and what ran
    where and when."""
    return {
        "noun": "measurement",
        "path": str(measurement.path),
        **_statistics(measurement),
        "layers": _layers(Run.of(measurement, bundles)),
        "energy": {role: _energy(measurement, role) for role in ("artifact", "against")},
        **_origin(measurement),
        "conditions_before": dict(measurement.blocks[0].conditions_before),
        "conditions_after": dict(measurement.blocks[-1].conditions_after),
    }


def count_summary(measurement: Emulated) -> dict[str, Any]:
    """A measurement of emulated instructions. Its figures have other keys than times have: against_* is what it was
    compared with (None if nothing was), the ratio how many times fewer the artifact's are."""
    found = measurement.summary
    return {
        "noun": "measurement",
        "path": str(measurement.path),
        "kind": measurement.kind,
        "emulated_instructions": found.instructions,
        "against_emulated_instructions": found.against,
        "ratio_of_emulated_instructions": found.ratio,
        "output_max_abs": found.output_max_abs,
        **{name: getattr(measurement, name) for name in ("target", "runtime", "precision", "threads")},
        **_origin(measurement),
    }


def native_summary(measurement: Aggregated) -> dict[str, Any]:
    """A native runner's measurement: what is derived from its aggregates, and what ran
    where and when."""
    return {
        "noun": "measurement",
        "path": str(measurement.path),
        "kind": measurement.kind,
        **_statistics(measurement),
        **_origin(measurement),
        "conditions_before": dict(measurement.native[0].conditions_before),
        "conditions_after": dict(measurement.native[-1].conditions_after),
    }


def _statistics(measurement: Union[Timed, Aggregated]) -> dict[str, Any]:
    """What is derived from a measurement, the artifact's figures first, and what ran."""
    found = asdict(measurement.summary)
    names = ("runtime", "precision", "threads", "target", "connection")
    return {**found.pop("artifact"), **found, **{name: getattr(measurement, name) for name in names}}


def _origin(measurement: Measurement) -> dict[str, Any]:
    """Which files were measured, where and when."""
    names = ("artifact_path", "artifact_sha256", "against_path", "against_sha256", "ticket_id", "created")
    return {
        **{name: getattr(measurement, name) for name in names},
        "machine": machine_words(measurement),
        "asked": dict(measurement.asked),
        "environment": dict(measurement.environment),
        "notes": list(measurement.notes),
    }


def _energy(measurement: Timed, role: str) -> Union[dict[str, Any], str]:
    found = energy(measurement.of(role))
    return asdict(found) if found else "absent"


def _layers(run: Run) -> list[dict[str, Any]]:
    """Each layer's time and gain; what the export said of it where the bundle is known."""
    return [
        {
            **(asdict(each.layer) if each.layer else {"name": each.name}),
            "time_ns": each.time_ns,
            "against_ns": each.against_ns,
            "measured_gain": each.gain,
        }
        for each in layer_times(run)
    ]
