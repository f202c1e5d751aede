"""An artifact: a bundle folder with one model file for one runtime, and proof that it does what the ticket does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, TypedDict

from edgeprune import archive, store
from edgeprune.errors import ExportError
from edgeprune.evidence import KernelTimes, Mixed, Signal
from edgeprune.mask import Array
from edgeprune.metric import Metric
from edgeprune.port import Port as Port
from edgeprune.port import inputs_to_file_layout as inputs_to_file_layout
from edgeprune.port import to_file_layout as to_file_layout
from edgeprune.port import to_torch_layout as to_torch_layout
from edgeprune.port import torch_shape as torch_shape
from edgeprune.store import StrPath

PROBES_FILE = "probes.safetensors"
PORTABLE = "-portable"  # at the end of a bundle's name
_AGAIN = store.MEND["artifact"]


@dataclass(frozen=True)
class Zeros:
    """The zero certificate of one tensor, read back from the model file.

    expected: zeros of the (shrunk) weights in PyTorch; lost: those that are not exactly zero in the file; gained:
    zeros in the file that were none (a small weight that int8 rounds to zero). density: nonzeros in the file / size.
    """

    expected: int
    lost: int
    gained: int
    size: int
    density: float


@dataclass(frozen=True)
class Layer:
    """What became of one layer with weights, and why.

    op: "Conv", "Gemm", "LSTM" and so on. shape: the weight's, as in PyTorch; of a recurrent layer that of both side by
    side, in all directions: [rows of all gates, inputs + units]. density: share of the weights in the file that are
    not zero. pattern: the format that a sparse kernel reads the weights in ("unstructured", "block:4x1" or
    "block:1x4"), "" for a dense one. kernel: "sparse" or "dense" (the runtime's own). why: one line. predicted_gain:
    the dense kernel's time / the chosen one's, predicted or, with `Artifact.kernel_times`, measured; 1.0 for dense.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    density: float
    pattern: str
    kernel: str
    why: str
    predicted_gain: float


class Asked(TypedDict, total=False):
    """What export was asked for, by the names of its options. max_drop: of the metric, as it is computed."""

    target: str
    max_drop: float
    portable: bool
    measure: bool
    data_dir: str


@dataclass(frozen=True)
class Artifact:
    """A bundle on disk: `path` holds manifest.json, the model file and probes.safetensors (inputs by their
    ports' names and expected outputs as `output_0`, ... in the file's layout, first dimension the probe's number; the
    expected outputs are PyTorch's). inputs: in the order of the network's arguments.

    variant: "ticket" or "dense" (the twin it is compared with). twin: folder name of the dense twin beside it, "" for
    a dense twin itself. files: name -> SHA-256 of every file but the manifest. parity_max_abs: largest absolute
    difference to PyTorch over the probes; parity_scale: largest absolute PyTorch output; tolerance: largest absolute
    difference to the expected outputs that a timed session accepts. metric_torch, metric_runtime: on the whole
    validation set. size_bytes: all that a device needs, the model file and the library; size_zip_bytes: of these, each
    deflated. weights_removed: prunable weights that were physically removed, of weights_total. channels_removed: layer
    -> output channels removed; channels_kept: how many dead ones stay and why, a sentence each. sparse_tensors:
    tensors stored in a sparse format in the file. calibration: the method kept (int8) or "". library: the file in the
    bundle with the operators that the model needs besides the runtime's own, "" if none; library_bytes and
    library_zip_bytes: its part of the sizes. layers: what runs each layer with weights; empty where the runtime alone
    decides. smaller_is_better, metric_unit: of the metric.

    metric_test_runtime, metric_test_torch, metric_test_dense: on the whole test set, of this bundle in its runtime, of
    the same network in PyTorch, and of the same seed's dense model in PyTorch. They are there to be told: nothing is
    chosen by them. signals: of each output (int8). mixed: what the int8 network took, None where nothing was needed.
    kernel_times: what `layers` was chosen by, None where that were predictions (docs/kernels.md).
    Manifests from before these were known lack everything from `library` on. source: the folder or .zip that was
    given to `load`, not in the manifest.
    """

    path: Path
    ticket_id: str
    task_name: str
    seed: int
    target: str
    runtime: str
    precision: str
    variant: str
    twin: str
    model_file: str
    files: Mapping[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    zeros: Mapping[str, Zeros]
    parity_max_abs: float
    parity_scale: float
    tolerance: float
    metric_name: str
    metric_torch: float
    metric_runtime: float
    size_bytes: int
    size_zip_bytes: int
    weights_total: int
    weights_removed: int
    channels_removed: Mapping[str, int]
    sparse_tensors: tuple[str, ...]
    calibration: str
    versions: Mapping[str, str]
    library: str = ""
    layers: tuple[Layer, ...] = ()
    smaller_is_better: bool = False
    metric_unit: str = ""
    library_bytes: int = 0
    library_zip_bytes: int = 0
    metric_test_runtime: Optional[float] = None
    metric_test_torch: Optional[float] = None
    metric_test_dense: Optional[float] = None
    options: Asked = field(default_factory=lambda: Asked())
    signals: tuple[Signal, ...] = ()
    kernel_times: Optional[KernelTimes] = None
    channels_kept: tuple[str, ...] = ()
    mixed: Optional[Mixed] = None
    source: Optional[Path] = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in (*self.files, self.model_file, *filter(None, (self.library, self.twin))):
            if not store.is_plain_name(name) or name == "manifest.json":
                raise ExportError(f"files: expected a name inside the bundle, got {ascii(name[:80])}")
        for role, name in (("model_file", self.model_file), ("library", self.library), ("probes", PROBES_FILE)):
            if name and name not in self.files:
                raise ExportError(f"{role}: {name} is not among its files")
        for role, ports in (("inputs", self.inputs), ("outputs", self.outputs)):
            if not ports:
                raise ExportError(f"{role}: expected at least one, got none")
        if len(self._probed()) < len(self.inputs) + len(self.outputs):
            raise ExportError(f"inputs: expected a name of its own for each, got {[port.name for port in self.inputs]}")

    @property
    def metric(self) -> Metric:
        """The metric's name, direction and unit."""
        return Metric(self.metric_name, self.smaller_is_better, self.metric_unit)

    @property
    def origin(self) -> Path:
        """The folder, or the .zip whose files lie in `path` for now."""
        return self.source or self.path

    @property
    def model_path(self) -> Path:
        """The model file."""
        return self.path / self.model_file

    @property
    def model_bytes(self) -> int:
        """The model file's part of `size_bytes`."""
        return self.size_bytes - self.library_bytes

    @property
    def portable(self) -> bool:
        """True for a bundle of stock operators beside one that needs a library."""
        return self.origin.stem.endswith(PORTABLE)

    @property
    def library_path(self) -> Optional[Path]:
        """The library of the operators that the model needs besides the runtime's own, or None."""
        return self.path / self.library if self.library else None

    @property
    def zeros_lost(self) -> int:
        """Zeros of the ticket that are no zeros in the model file, over all tensors; 0 in every finished artifact."""
        return sum(zeros.lost for zeros in self.zeros.values())

    @property
    def zeros_gained(self) -> int:
        """Weights so small that the precision made zeros of them, over all tensors."""
        return sum(zeros.gained for zeros in self.zeros.values())

    @property
    def nonzero(self) -> float:
        """Weights in the model file that are not zero."""
        return sum(zeros.density * zeros.size for zeros in self.zeros.values())

    @property
    def density(self) -> float:
        """Nonzero weights / weights of the tensors in the model file; physically removed weights count in neither."""
        total = sum(zeros.size for zeros in self.zeros.values())
        return self.nonzero / total if total else 1.0

    @property
    def density_of_dense(self) -> float:
        """Nonzero weights in the model file / prunable weights of the dense model, before any was physically
        removed."""
        return self.nonzero / self.weights_total if self.weights_total else 1.0

    @property
    def parity_relative(self) -> float:
        """The largest difference to PyTorch / the scale of the outputs; 0 where that is not known."""
        return self.parity_max_abs / self.parity_scale if self.parity_scale else 0.0

    def twin_path(self) -> Optional[Path]:
        """Folder of the dense twin, or its .zip beside this one's where there is no folder; None for a dense twin."""
        if not self.twin:
            return None
        folder, packed = (self.origin.with_name(f"{self.twin}{ending}") for ending in ("", ".zip"))
        return packed if packed.is_file() and not folder.is_dir() else folder

    def _probed(self) -> dict[str, Port]:
        """Name of each tensor of the probes -> its port."""
        outputs = {f"output_{index}": port for index, port in enumerate(self.outputs)}
        return {**{port.name: port for port in self.inputs}, **outputs}

    def probe_inputs(self) -> list[Array]:
        """[probes, ...] of each input, in order, in the file's layout."""
        found = self.probes()
        return [found[port.name] for port in self.inputs]

    def probes(self) -> dict[str, Array]:
        """{"input": [probes, ...], "output_0": [probes, ...], ...} in the file's layout, inputs by their ports'
        names."""
        path = self.path / PROBES_FILE
        found = store.read_tensors(path, "artifact", ExportError, self.files[PROBES_FILE])
        wanted, first = self._probed(), self.inputs[0].name
        if found.keys() != wanted.keys():
            raise ExportError(f"artifact file {path} holds {sorted(found)}, expected {sorted(wanted)}", _AGAIN)
        for name, port in wanted.items():
            shape = found[name].shape
            if shape[1:] != port.shape[1:] or not shape or shape[0] != len(found[first]) or not shape[0]:
                raise ExportError(f"artifact file {path}: {name} has the wrong shape {list(shape)}", _AGAIN)
        return found

    def content(self) -> dict[str, Any]:
        """What the manifest holds: all fields but where the bundle lies."""
        return {name: value for name, value in asdict(self).items() if name not in ("path", "source")}

    def save(self) -> None:
        """Write the bundle as one .zip beside the folder (reproducible bytes), then manifest.json, to complete it."""
        manifest = store.sealed_json({**self.content(), "zeros_lost": self.zeros_lost})
        archive.pack(self.path, self.files, {"manifest.json": manifest})
        store.write_bytes(self.path / "manifest.json", manifest)

    @classmethod
    def load(cls, path: StrPath) -> Artifact:
        """Read a bundle folder (or its manifest.json, or its .zip) and check the SHA-256 of each file in it.

        A .zip is unpacked into a temporary folder that goes when this process ends.
        """
        given = Path(path)
        source = given.parent if given.name == "manifest.json" else given
        folder = archive.unpack(source) if archive.is_archive(source) else source
        file = folder / "manifest.json"
        content = store.read_json(file, "artifact", ExportError)
        content.pop("zeros_lost", None)  # derived from the zeros
        if "input" in content:  # from before there could be several
            content["inputs"] = [content.pop("input")]
        artifact = store.decoded(cls, content, file, "artifact", ExportError, path=folder, source=source)
        inside = folder.resolve()
        for name, sha256 in artifact.files.items():
            file = folder / name
            if not file.is_file():
                raise ExportError(f"artifact {folder} is incomplete: {name} is missing", _AGAIN)
            if inside not in file.resolve().parents:
                raise ExportError(f"artifact file {file} is a link that leaves the bundle", "copy the file there")
            if file.stat().st_size > archive.LARGEST:
                raise ExportError(f"artifact file {file} is larger than {archive.LARGEST:,} bytes", _AGAIN)
            if store.sha256_file(file) != sha256:
                raise ExportError(
                    f"artifact file {file} was edited or damaged: SHA-256 differs from the manifest's", _AGAIN
                )
        if artifact.library_path is None or artifact.library_bytes:
            return artifact
        # From before the sizes counted the library.
        return replace(
            artifact, **archive.sizes_of(artifact.model_path.read_bytes(), artifact.library_path.read_bytes())
        )
