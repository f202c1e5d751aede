"""A .tflite file under construction: tensors, buffers and operators, then bytes.

Written with the flatbuffer schema that ai-edge-litert carries; no TensorFlow. Layout of the file: TensorFlow's
`tensorflow/compiler/mlir/lite/schema/schema.fbs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeprune.export.scales import Grid
from edgeprune.export.tflite.sparse import SparseMatrix
from edgeprune.export.tflite.versions import Signature, version

FILE_IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # bytes; the schema asks for it so that kernels may read weights in place
TYPES = {"bool": "BOOL", "float32": "FLOAT32", "int8": "INT8", "int32": "INT32", "int64": "INT64"}


@dataclass(frozen=True)
class Tensor:
    """shape: as stored, for one example. data: bytes of a constant; sparse: set if they are its blocks."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    grid: Grid | None = None
    data: bytes | None = None
    sparse: SparseMatrix | None = None


@dataclass(frozen=True)
class Operator:
    """code: name in schema.BuiltinOperator; options: an object of the schema, or None. inputs: -1 for one left out."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


def options_of(kind: str, **fields: Any) -> Any:
    """An options object of the schema, e.g. options_of("Softmax", beta=1.0)."""
    options = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def type_number(dtype: str) -> int:
    """The schema's number for a type."""
    return int(getattr(schema.TensorType, TYPES[dtype]))


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose bytes start at a multiple of 16: the generated code drops the schema's `force_align`."""

    def Pack(self, builder: Any) -> int:
        """Write the bytes and the table that points at them; gives the table's offset."""
        if self.data is None:
            return int(super().Pack(builder))
        builder.Prep(ALIGNMENT, len(self.data))
        data = builder.CreateByteVector(self.data)
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class ModelFile:
    """Collects tensors and operators in execution order; `finish` drops what no output needs and gives the bytes."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self._constants: dict[tuple[Any, ...], int] = {}
        self._producers: dict[int, Operator] = {}

    def tensor(self, tensor: Tensor) -> int:
        """Add a tensor that an operator or the caller fills; gives its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, array: NDArray[Any], grid: Grid | None = None) -> int:
        """Add a constant; equal content under one name is stored once."""
        data = array.tobytes()
        key = (name, array.shape, array.dtype.str, data)
        if key not in self._constants:
            self._constants[key] = self.tensor(Tensor(name, array.shape, str(array.dtype), grid, data))
        return self._constants[key]

    def sparse_constant(self, name: str, shape: tuple[int, ...], matrix: SparseMatrix) -> int:
        """Add a float32 matrix that is stored as blocks; a name stands for one matrix, which is stored once."""
        key = (name, shape, "sparse", matrix.values.tobytes())
        if key not in self._constants:
            self._constants[key] = self.tensor(Tensor(name, shape, "float32", None, matrix.values.tobytes(), matrix))
        return self._constants[key]

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> None:
        """Add an operator. A reshape of a reshape reads the first one's input."""
        inputs = tuple(inputs)
        if code == "RESHAPE":
            before = self._producers.get(inputs[0])
            if before is not None and before.code == "RESHAPE":
                inputs = (before.inputs[0], *inputs[1:])
        operator = Operator(code, inputs, tuple(outputs), options)
        self.operators.append(operator)
        self._producers.update(dict.fromkeys(operator.outputs, operator))

    def producer(self, tensor: int) -> Operator | None:
        """The operator that fills a tensor, None for inputs and constants."""
        return self._producers.get(tensor)

    def rename(self, tensor: int, name: str) -> None:
        """Give a tensor another name."""
        self.tensors[tensor] = replace(self.tensors[tensor], name=name)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The bytes of the file. inputs, outputs: name in the signature -> tensor."""
        live = self._live(outputs)
        used = {index for operator in live for index in (*operator.inputs, *operator.outputs) if index >= 0}
        order = sorted(used | set(inputs.values()) | set(outputs.values()))
        number = {old: new for new, old in enumerate(order)}
        buffers = [schema.BufferT()]
        codes: dict[tuple[str, int], int] = {}
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors = [_tensor(self.tensors[index], buffers) for index in order]
        graph.inputs = [number[index] for index in inputs.values()]
        graph.outputs = [number[index] for index in outputs.values()]
        graph.operators = [self._operator(operator, number, codes) for operator in live]
        model = schema.ModelT()
        model.version, model.description = 3, "edgeprune"
        model.subgraphs, model.buffers = [graph], buffers
        model.operatorCodes = [_operator_code(code, needed) for code, needed in codes]
        ports = [{name: number[index] for name, index in side.items()} for side in (inputs, outputs)]
        model.signatureDefs = [_signature(*ports)]
        builder = flatbuffers.Builder(sum(len(buffer.data or b"") for buffer in buffers) + 65536)
        builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _live(self, outputs: Mapping[str, int]) -> list[Operator]:
        needed, live = set(outputs.values()), []
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs)
                live.append(operator)
        return live[::-1]

    def _operator(self, operator: Operator, number: Mapping[int, int], codes: dict[tuple[str, int], int]) -> Any:
        key = (operator.code, version(self._signature(operator)))
        packed = schema.OperatorT()
        packed.opcodeIndex = codes.setdefault(key, len(codes))
        packed.inputs = [number[index] if index >= 0 else -1 for index in operator.inputs]
        packed.outputs = [number[index] for index in operator.outputs]
        if operator.options is not None:
            kind = type(operator.options).__name__.removesuffix("T")
            packed.builtinOptionsType, packed.builtinOptions = getattr(schema.BuiltinOptions, kind), operator.options
        return packed

    def _signature(self, operator: Operator) -> Signature:
        inputs = [self.tensors[index] for index in operator.inputs if index >= 0]
        data = inputs[2] if operator.code in ("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE") else inputs[0]
        binary = operator.code in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")
        grouped = operator.code == "CONV_2D" and inputs[0].shape[-1] != inputs[1].shape[-1]
        return Signature(
            code=operator.code,
            int8=data.dtype == "int8",
            shapes=[tensor.shape for tensor in inputs[:2]] if binary else [data.shape],
            options=operator.options,
            sparse=any(tensor.sparse is not None for tensor in inputs),
            grouped=grouped,
            rescale=self._rescale(operator) if operator.code == "MUL" and data.dtype == "int8" else 0.0,
        )

    def _rescale(self, operator: Operator) -> float:
        scales = [_scale(self.tensors[index]) for index in (*operator.inputs, *operator.outputs)]
        return scales[0] * scales[1] / scales[2]


def _scale(tensor: Tensor) -> float:
    return float(tensor.grid.scale[0]) if tensor.grid is not None else 1.0


def _tensor(tensor: Tensor, buffers: list[Any]) -> Any:
    packed = schema.TensorT()
    packed.name, packed.shape = tensor.name, list(tensor.shape)
    packed.type = type_number(tensor.dtype)
    packed.hasRank = True
    if tensor.data is not None:
        buffer = AlignedBuffer()
        buffer.data = tensor.data
        buffers.append(buffer)
        packed.buffer = len(buffers) - 1
    if tensor.grid is not None:
        packed.quantization = schema.QuantizationParametersT()
        packed.quantization.scale, packed.quantization.zeroPoint = tensor.grid.scale, tensor.grid.zero_point
        packed.quantization.quantizedDimension = 0 if tensor.grid.per_tensor else tensor.grid.axis or 0
    if tensor.sparse is not None:
        packed.sparsity = _sparsity(tensor.sparse)
    return packed


def _sparsity(matrix: SparseMatrix) -> Any:
    packed = schema.SparsityParametersT()
    packed.traversalOrder, packed.blockMap = list(matrix.traversal), list(matrix.block_map)
    packed.dimMetadata = []
    for dimension in matrix.dimensions:
        entry = schema.DimensionMetadataT()
        if dimension.segments is None or dimension.indices is None:
            entry.format, entry.denseSize = schema.DimensionType.DENSE, dimension.size
        else:
            entry.format = schema.DimensionType.SPARSE_CSR
            entry.arraySegmentsType, entry.arraySegments = _index_vector(dimension.segments)
            entry.arrayIndicesType, entry.arrayIndices = _index_vector(dimension.indices)
        packed.dimMetadata.append(entry)
    return packed


def _index_vector(indices: NDArray[Any]) -> tuple[int, Any]:
    kind = {"uint8": "Uint8Vector", "uint16": "Uint16Vector", "int32": "Int32Vector"}[str(indices.dtype)]
    vector = getattr(schema, f"{kind}T")()
    vector.values = indices
    return int(getattr(schema.SparseIndexVector, kind)), vector


def _operator_code(code: str, needed: int) -> Any:
    packed = schema.OperatorCodeT()
    packed.builtinCode = getattr(schema.BuiltinOperator, code)
    # Readers older than the wide field look at this one; 127 says that the wide field holds the code.
    packed.deprecatedBuiltinCode = min(packed.builtinCode, 127)
    packed.version = needed
    return packed


def _signature(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    packed = schema.SignatureDefT()
    packed.signatureKey, packed.subgraphIndex = "serving_default", 0
    packed.inputs, packed.outputs = [], []
    for entries, ports in ((packed.inputs, inputs), (packed.outputs, outputs)):
        for name, index in ports.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            entries.append(entry)
    return packed
