"""An input or output of a model file, and the ways between its layout and PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeprune.errors import ExportError
from edgeprune.mask import Array


@dataclass(frozen=True)
class Port:
    """One input or output of the model file. shape: with -1 for a batch dimension left open; layout: how the file
    wants it, "NCHW", "NHWC", "NCL", "NLC" or "" where no channels are meant (the probes are stored in this layout)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str

    def __post_init__(self) -> None:
        if not self.shape or any(size < 1 for size in self.shape[1:]) or self.shape[0] < -1:
            raise ExportError(f"shape: expected a batch and sizes of 1 or more, got {list(self.shape)}")
        if self.layout and (len(self.layout) != len(self.shape) or not set(self.layout) <= set("NCDHWL")):
            raise ExportError(f"layout: expected one of {len(self.shape)} letters, got {self.layout!r}")
        try:
            known = np.dtype(self.dtype).kind in "fiub"
        except TypeError:
            known = False
        if not known:
            raise ExportError(f"dtype: expected a NumPy type of numbers, got {self.dtype!r}")


def to_file_layout(array: Array, port: Port) -> Array:
    """[n, channels, ...] as PyTorch has it -> the layout that the file wants (contiguous)."""
    if port.layout in ("NHWC", "NLC"):
        array = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(array)


def inputs_to_file_layout(arrays: Iterable[Array], ports: Iterable[Port]) -> tuple[Array, ...]:
    """`to_file_layout` of each input."""
    return tuple(to_file_layout(array, port) for array, port in zip(arrays, ports))


def to_torch_layout(array: Array, port: Port) -> Array:
    """The reverse of `to_file_layout`."""
    if port.layout in ("NHWC", "NLC"):
        array = np.moveaxis(array, -1, 1)
    return np.ascontiguousarray(array)


def torch_shape(port: Port) -> tuple[int, ...]:
    """A port's shape in PyTorch's layout."""
    if port.layout in ("NHWC", "NLC"):
        batch, *sizes, channels = port.shape
        return (batch, channels, *sizes)
    return port.shape
