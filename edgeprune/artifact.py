"""An artifact: a bundle folder with one model file for one runtime, and proof that it does what the ticket does."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edgeprune import store
from edgeprune.errors import ExportError
from edgeprune.mask import Array
from edgeprune.metric import Metric

WEAK_DB = 15.0


@dataclass(frozen=True)
class Port:
    """One input or output of the model file. shape: with -1 for a batch dimension left open; layout: how the file
    wants it, "NCHW", "NHWC", "NCL", "NLC" or "" where no channels are meant (the probes are stored in this layout)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str


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

    op: "Conv" or "Gemm". shape: the weight's, as in PyTorch. density: share of the weights in the file that are not
    zero. pattern: the format that a sparse kernel reads the weights in ("unstructured", "block:4x1" or "block:1x4"),
    "" for a dense one. kernel: "sparse" or "dense" (the runtime's own). why: one line. predicted_gain: the dense
    kernel's predicted time / the chosen one's; 1.0 for dense.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    density: float
    pattern: str
    kernel: str
    why: str
    predicted_gain: float


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
class Artifact:
    """A bundle on disk: `path` holds manifest.json, the model file and probes.safetensors (inputs and expected
    outputs as `input` and `output_0`, ... in the file's layout, first dimension the probe's number; the expected
    outputs are PyTorch's).

    variant: "ticket" or "dense" (the twin it is compared with). twin: folder name of the dense twin beside it, "" for
    a dense twin itself. files: name -> SHA-256 of every file but the manifest. parity_max_abs: largest absolute
    difference to PyTorch over the probes; parity_scale: largest absolute PyTorch output; tolerance: largest absolute
    difference to the expected outputs that a timed session accepts. metric_torch, metric_runtime: on the whole
    validation set. size_bytes: all that a device needs, the model file and the library; size_zip_bytes: of these,
    each deflated. weights_removed: prunable weights that were physically removed, of weights_total. channels_removed:
    layer -> output channels removed. sparse_tensors: tensors stored in a sparse format in the file. calibration: the
    method kept (int8) or "". library: the file in the bundle with the operators that the model needs besides the
    runtime's own, "" if none; library_bytes and library_zip_bytes: its part of the sizes. layers: what runs each layer
    with weights; empty where the runtime alone decides. smaller_is_better, metric_unit: of the metric.

    metric_test_runtime, metric_test_torch, metric_test_dense: on the whole test set, of this bundle in its runtime, of
    the same network in PyTorch, and of the same seed's dense model in PyTorch. They are there to be told: nothing is
    chosen by them. options: what export was asked for, by the names of its options. signals: of each output (int8).
    Manifests from before these were known lack everything from `library` on.
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
    input: Port
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
    options: Mapping[str, Any] = field(default_factory=dict)
    signals: tuple[Signal, ...] = ()

    @property
    def metric(self) -> Metric:
        """The metric's name, direction and unit."""
        return Metric(self.metric_name, self.smaller_is_better, self.metric_unit)

    @property
    def model_path(self) -> Path:
        """The model file."""
        return self.path / self.model_file

    @property
    def model_bytes(self) -> int:
        """The model file's part of `size_bytes`."""
        return self.size_bytes - self.library_bytes

    @property
    def library_path(self) -> Optional[Path]:
        """The library of the operators that the model needs besides the runtime's own, or None."""
        return self.path / self.library if self.library else None

    @property
    def zeros_lost(self) -> int:
        """Zeros of the ticket that are no zeros in the model file, over all tensors; 0 in every finished artifact."""
        return sum(zeros.lost for zeros in self.zeros.values())

    def twin_path(self) -> Optional[Path]:
        """Folder of the dense twin, or None for a dense twin itself."""
        return self.path.parent / self.twin if self.twin else None

    def probes(self) -> dict[str, Array]:
        """{"input": [probes, ...], "output_0": [probes, ...], ...} in the file's layout."""
        return store.read_tensors(
            self.path / "probes.safetensors", "artifact", ExportError, self.files["probes.safetensors"]
        )

    def save(self) -> None:
        """Write the bundle as one .zip beside the folder (reproducible bytes), then manifest.json, to complete it."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        manifest = store.sealed_json({**content, "zeros_lost": self.zeros_lost})
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name in sorted((*self.files, "manifest.json")):
                entry = zipfile.ZipInfo(f"{self.path.name}/{name}")
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                bundle.writestr(entry, manifest if name == "manifest.json" else (self.path / name).read_bytes())
        store.write_bytes(self.path.with_name(f"{self.path.name}.zip"), archive.getvalue())
        store.write_bytes(self.path / "manifest.json", manifest)

    @classmethod
    def load(cls, path: Path) -> Artifact:
        """Read a bundle folder (or its manifest.json) and check the SHA-256 of each file in it."""
        folder = path.parent if path.name == "manifest.json" else path
        content = store.read_json(folder / "manifest.json", "artifact", ExportError)
        try:
            artifact = cls(path=folder, **_fields(content))
        except (KeyError, TypeError) as problem:
            raise ExportError(f"{folder} is not an artifact: a field is missing or wrong ({problem})") from None
        if artifact.library and artifact.library not in artifact.files:
            raise ExportError(f"{folder} is not an artifact: its library {artifact.library} is not among its files")
        for name, sha256 in artifact.files.items():
            file = folder / name
            if not file.is_file():
                raise ExportError(f"artifact {folder} is incomplete: {name} is missing", store.NEXT_STEP["artifact"])
            if store.sha256_file(file) != sha256:
                raise ExportError(
                    f"artifact file {file} was edited or damaged: SHA-256 differs from the manifest's",
                    store.NEXT_STEP["artifact"],
                )
        if artifact.library_path is None or artifact.library_bytes:
            return artifact
        # From before the sizes counted the library.
        return replace(artifact, **sizes_of(artifact.model_path.read_bytes(), artifact.library_path.read_bytes()))


def sizes_of(model: bytes, library: bytes = b"") -> dict[str, Any]:
    """The sizes in a manifest of a model file and the library that it needs, if any."""
    model_zip, library_zip = (len(zlib.compress(data)) if data else 0 for data in (model, library))
    return {
        "size_bytes": len(model) + len(library),
        "size_zip_bytes": model_zip + library_zip,
        "library_bytes": len(library),
        "library_zip_bytes": library_zip,
    }


def _fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments from the manifest's JSON."""
    fields = {name: value for name, value in content.items() if name not in ("schema_version", "zeros_lost")}
    fields["input"] = _port(content["input"])
    fields["outputs"] = tuple(_port(port) for port in content["outputs"])
    fields["zeros"] = {name: Zeros(**zeros) for name, zeros in content["zeros"].items()}
    fields["sparse_tensors"] = tuple(content["sparse_tensors"])
    layers = content.get("layers", ())
    fields["layers"] = tuple(Layer(**{**layer, "shape": tuple(layer["shape"])}) for layer in layers)
    fields["signals"] = tuple(Signal(**signal) for signal in content.get("signals", ()))
    return fields


def _port(content: Mapping[str, Any]) -> Port:
    return Port(content["name"], tuple(content["shape"]), content["dtype"], content["layout"])


def to_file_layout(array: Array, port: Port) -> Array:
    """[n, channels, ...] as PyTorch has it -> the layout that the file wants (contiguous)."""
    if port.layout in ("NHWC", "NLC"):
        array = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(array)


def to_torch_layout(array: Array, port: Port) -> Array:
    """The reverse of `to_file_layout`."""
    if port.layout in ("NHWC", "NLC"):
        array = np.moveaxis(array, -1, 1)
    return np.ascontiguousarray(array)
