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
from edgeprune.statistics import NativeSummary, Summary
from edgeprune.ticket import Ticket


def summary(noun: Noun, bundles: Sequence[Artifact] = ()) -> dict[str, Any]:
    """The dictionary of any of the three nouns. bundles: that a measurement ran, for what the export expected of its
    layers."""
    if isinstance(noun, Ticket):
        return ticket_summary(noun)
    return artifact_summary(noun) if isinstance(noun, Artifact) else measurement_summary(noun, bundles)


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


def measurement_summary(measurement: Measurement, bundles: Sequence[Artifact]) -> dict[str, Any]:
    """A measurement: all that its summary holds (`against` holds the same for what it was compared with, `ratio` how
    many times as fast the artifact is), and what ran where and when. One with samples has its layers with predicted and
    measured gain, and the energy of an inference (see `edgeprune.energy.Energy`; "absent" where the device measures no
    power), too. The figures of emulated instructions have other keys than times have."""
    header = ("artifact_path", "artifact_sha256", "against_path", "against_sha256", "ticket_id", "created")
    ends = zip(("conditions_before", "conditions_after"), (measurement.ran[:1], measurement.ran[-1:]))
    return {
        "noun": "measurement",
        "path": str(measurement.path),
        **_figures(measurement, bundles),
        **{name: getattr(measurement, name) for name in header},
        "machine": machine_words(measurement),
        "asked": dict(measurement.asked),
        "environment": dict(measurement.environment),
        "notes": list(measurement.notes),
        **{name: dict(getattr(process, name)) for name, ran in ends for process in ran},
    }


def _figures(measurement: Measurement, bundles: Sequence[Artifact]) -> dict[str, Any]:
    """What is derived from a measurement of any kind, the artifact's figures first, and what ran."""
    setting = {name: getattr(measurement, name) for name in ("runtime", "precision", "threads", "target", "connection")}
    if isinstance(measurement, Emulated):
        counted = measurement.summary
        return {
            "kind": measurement.kind,
            "emulated_instructions": counted.instructions,
            "against_emulated_instructions": counted.against,
            "ratio_of_emulated_instructions": counted.ratio,
            "output_max_abs": counted.output_max_abs,
            **{name: setting[name] for name in ("target", "runtime", "precision", "threads")},
        }
    if isinstance(measurement, Aggregated):
        return {"kind": measurement.kind, **_sides_first(measurement.summary), **setting}
    run = Run.of(timed(measurement), bundles)
    energies = {role: _energy(run.measurement, role) for role in ("artifact", "against")}
    return {**_sides_first(run.summary), **setting, "layers": _layers(run), "energy": energies}


def _sides_first(summary: Union[Summary, NativeSummary]) -> dict[str, Any]:
    plain = asdict(summary)
    return {**plain.pop("artifact"), **plain}


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
