"""What an artifact states besides its zeros: the noise of its outputs, and the times its kernels were chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WEAK_DB = 15.0
LEAST_DB = 20.0  # an int8 network whose weakest output is below is made stronger, see `Mixed`


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
class Mixed:
    """What an int8 network that was below LEAST_DB took. floating: the layers that stay float, with what is computed
    between them and the next ones; layers: that are int8 without; corrected: the others' biases take out the mean error
    of each channel. before_db, after_db: signal-to-noise ratio of the weakest output on the validation set without and
    with it, in ONNX Runtime; equal where nothing was found that brings it over the limit."""

    floating: tuple[str, ...]
    layers: int
    corrected: bool
    before_db: float
    after_db: float

    @property
    def words(self) -> str:
        """The same in one line."""
        stay = f"{len(self.floating)} of {self.layers} layers stay float" if self.floating else ""
        done = ", ".join(filter(None, [stay, "biases corrected" if self.corrected else ""]))
        if not done:
            below = f"below {LEAST_DB:g} dB with half of {self.layers} layers in float too"
            return f"int8: {self.before_db:.1f} dB, {below}"
        return f"int8: {done}: {self.before_db:.1f} dB without, {self.after_db:.1f} dB with"


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
