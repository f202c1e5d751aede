"""The runtimes that artifacts run in, one file each; names are file stems, found by listing this folder.

Each module is a `Runtime`. A Session takes an array for each input in the file's layout, and gives the outputs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.artifact import Artifact, Port, inputs_to_file_layout, to_torch_layout, torch_shape
from edgeprune.device import Failure
from edgeprune.device.runtimes import Found, find_runtime
from edgeprune.errors import DeviceError, ExportError, TargetError, nearest
from edgeprune.store import StrPath

Session = Callable[..., "list[NDArray[Any]]"]


class Runtime(Protocol):
    """What a module of this folder offers. PRECISIONS: that it runs; MODEL_FILE: the model file's name in a bundle
    (export has a writer for its ending, .onnx or .tflite); TAKES_LIBRARY: it loads a library of operators, so that
    export may choose sparse kernels; PROVIDERS: a target may name execution providers for it."""

    PRECISIONS: tuple[str, ...]
    MODEL_FILE: str
    TAKES_LIBRARY: bool
    PROVIDERS: bool

    def version(self) -> str:
        """Name and version of the runtime found on this machine; DeviceError with the install line if there is none."""
        ...

    def open_session(self, path: Path, threads: int, library: Optional[Path] = None) -> Session:
        """Load a model file; the session maps the input arrays, in order, to the list of output arrays.

        library: of the operators that the model needs besides the runtime's own. ExportError for a file that cannot be
        loaded or is missing, DeviceError for a library that this machine or runtime refuses.
        """
        ...


def names() -> list[str]:
    """Names of all runtimes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Runtime:
    """The module of one runtime; TargetError for an unknown name."""
    if name not in names():
        raise TargetError(f"unknown runtime {name!r}", nearest(name, names()))
    module: Any = importlib.import_module(f"edgeprune.runtimes.{name}")
    return module  # type: ignore[no-any-return]


def find(name: str) -> Found:
    """A runtime that the device side knows, as installed here; DeviceError that says why there is none."""
    with on_host():
        return find_runtime(name)


@contextmanager
def on_host() -> Iterator[None]:
    """A Failure of the device side, met on the host, is a DeviceError."""
    try:
        yield
    except Failure as problem:
        raise DeviceError(str(problem), problem.hint) from None


@dataclass(frozen=True)
class LoadedModel:
    """A bundle ready to run: `model(x)` takes a batch [n, ...] in PyTorch's layout, `model(a, b)` or `model((a, b))`
    one of each input, and gives one array, or a tuple for a model with several outputs, in PyTorch's layout too.
    `run_file_layout` skips the change of layout (see `artifact.inputs[0].layout`). Both may be called from several
    threads: with LiteRT these take turns."""

    artifact: Artifact
    run_file_layout: Session

    def __call__(self, *batch: Any) -> Any:
        """Outputs for a batch of each input (an array, or what NumPy makes one of), in the order of `artifact.inputs`;
        ExportError if it is not of the model's shapes or kinds of numbers."""
        ports = self.artifact.inputs
        if len(batch) == 1 < len(ports) and isinstance(batch[0], (tuple, list)):
            (batch,) = batch
        if len(batch) != len(ports):
            wanted = ", ".join(map(_words, ports))
            raise ExportError(f"model {self.artifact.path.name} takes {len(ports)} inputs ({wanted}), got {len(batch)}")
        arrays = [self._checked(one, port) for one, port in zip(batch, ports)]
        if len({len(array) for array in arrays}) > 1:
            told = ", ".join(f"{port.name} {list(array.shape)}" for port, array in zip(ports, arrays))
            raise ExportError(f"model {self.artifact.path.name} takes equally many of each input, got {told}")
        results = self.run_file_layout(*inputs_to_file_layout(arrays, ports))
        outputs = tuple(to_torch_layout(result, port) for result, port in zip(results, self.artifact.outputs))
        return outputs[0] if len(outputs) == 1 else outputs

    def _checked(self, batch: Any, port: Port) -> NDArray[Any]:
        """The batch as an array of the input's type, in PyTorch's layout."""
        _, *shape = torch_shape(port)
        which = f" as {port.name}" if len(self.artifact.inputs) > 1 else ""
        wanted = f"model {self.artifact.path.name} takes {_words(port)}{which}"
        try:
            array = np.asarray(batch)
        except (ValueError, TypeError, RuntimeError) as problem:  # ragged lists; tensors elsewhere, or with gradients
            raise ExportError(f"{wanted}, got what is no array: {' '.join(str(problem).split())}") from None
        if array.ndim != len(shape) + 1 or array.shape[1:] != tuple(shape):
            hint = "a single example needs a batch of one: x[None]" if array.shape == tuple(shape) else ""
            raise ExportError(f"{wanted}, got {list(array.shape)}", hint)
        if array.size and not np.can_cast(array.dtype, port.dtype, "same_kind"):
            raise ExportError(f"{wanted}, got {array.dtype}", f"convert it: x.astype({port.dtype!r})")
        return array.astype(port.dtype, copy=False)


def check_count(path: Path, wanted: int, arrays: Sequence[NDArray[Any]]) -> None:
    """ExportError unless there is an array for each input of a model file."""
    if len(arrays) != wanted:
        raise ExportError(f"{path} takes {wanted} input{'s' * (wanted > 1)}, got {len(arrays)}")


def _words(port: Port) -> str:
    """What an input has to be: float32 [n, 3, 8, 8]."""
    size, *shape = torch_shape(port)
    return f"{port.dtype} [{', '.join(['n' if size < 0 else str(size), *map(str, shape)])}]"


def load_bundle(path: StrPath, threads: int = 1) -> LoadedModel:
    """Open an artifact's bundle, a folder or the .zip of one, with the runtime it was built for. This is
    `edgeprune.load`.

    Needs NumPy and that runtime only; DeviceError names the install line if the runtime is missing, or says why the
    bundle's library of operators cannot run here.
    """
    if type(threads) is not int or threads < 1:
        raise ExportError(f"threads: expected a whole number of 1 or more, got {threads!r}")
    artifact = Artifact.load(path)
    session = load(artifact.runtime).open_session(artifact.model_path, threads, artifact.library_path)
    return LoadedModel(artifact, session)
