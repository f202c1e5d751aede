"""Layer by layer: what the device took beside what the export expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from edgeprune.artifact import Artifact, Layer
from edgeprune.measurement import Timed
from edgeprune.report.collection import is_of

SPARSE = 0.5  # a density below this is more than luck
REST = "the rest"


@dataclass(frozen=True)
class LayerTime:
    """One layer, or all that belongs to none (REST). layer: as the export noted it, if the bundle is known. time_ns and
    against_ns: in the kernels of the artifact and of what it was compared with, None where no kernel bears its name."""

    name: str
    layer: Optional[Layer]
    time_ns: Optional[int]
    against_ns: Optional[int]

    @property
    def gain(self) -> Optional[float]:
        """How many times as fast the layer is."""
        return self.against_ns / self.time_ns if self.time_ns and self.against_ns else None


def layer_times(measurement: Timed, artifacts: Sequence[Artifact]) -> tuple[LayerTime, ...]:
    """The layers of a measurement in the model's order, the rest last; empty if no profile was taken.

    artifacts: where the measured bundle may be among; without it the layers are all that both profiles name.
    """
    mine, other = measurement.layers_ns("artifact"), measurement.layers_ns("against")
    if not mine:
        return ()
    layers = next((each.layers for each in artifacts if is_of(measurement, each)), ())
    known = {layer.name: layer for layer in layers}
    names = list(known) or [name for name in mine if name in other]
    rest = [sum(ns for name, ns in times.items() if name not in names) if times else None for times in (mine, other)]
    return (
        *(LayerTime(name, known.get(name), mine.get(name), other.get(name)) for name in names),
        LayerTime(REST, None, *rest),
    )


def run_dense(artifact: Artifact) -> list[str]:
    """Layers of a ticket whose weights are sparse and whose kernel is not."""
    sparse = [layer.name for layer in artifact.layers if layer.density < SPARSE and layer.kernel == "dense"]
    return sparse if artifact.variant == "ticket" else []


def dense_warnings(artifact: Artifact) -> list[str]:
    """One line if sparse weights lie with dense kernels, to which they bring no speed."""
    names = run_dense(artifact)
    line = f"sparse weights run by dense kernels: layers {', '.join(names)}; edgeprune inspect {artifact.origin}"
    return [line] if names else []
