"""What an artifact states besides its zeros: the noise of its outputs, and the times its kernels were chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WEAK_DB = 15.0


@dataclass(frozen=True)
class Signal:
    """How closely an int8 output follows PyTorch's on the validation set, in decibels: ten times the logarithm of the
    output's power / the difference's, within -150 and 150. db: in the artifact's runtime; minmax_db: what a network
    reaches in ONNX Runtime whose calibration clips nothing."""

    output: str
    db: float
    minmax_db: float

    @property
    def is_weak(self) -> bool:
        """True where noise is so strong that whoever reads the output is likely to be misled."""
        return self.db < WEAK_DB


@dataclass(frozen=True)
class KernelTimes:
    """What kernels were chosen by with `export --measure`, in nanoseconds. machine: the processor, runtime and threads;
    layers: layer -> kernel ("dense", "own" or a sparse format) -> time; stock_ns: of one inference with the runtime's
    own kernels alone; chosen_ns: with the best network of others (both 0 where there is no other); network: which that
    is, "layers" for what the layers' times speak for, or a sparse format for the library's kernels wherever it has
    any."""

    machine: str
    chosen_ns: float
    stock_ns: float
    network: str
    layers: Mapping[str, Mapping[str, float]]
