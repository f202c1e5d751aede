"""The weights of a .tflite file, read from its bytes alone: whoever wrote it."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeprune.errors import ExportError
from edgeprune.export.scales import Grid
from edgeprune.export.tflite.sparse import Dimension, decode

_DTYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8, "INT32": np.int32}


def read_weights(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Every constant of floats, and every quantized constant of int8 or int32, by name: dequantized, dense, in its
    stored shape. Constants without a scale (shapes, axes, paddings) are left out. ExportError if `data` is no .tflite
    file."""
    if data[4:8] != b"TFL3":
        raise ExportError("not a .tflite file: its identifier is missing")
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    names = {number: name for name, number in vars(schema.TensorType).items() if name in _DTYPES}
    weights = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            content = model.buffers[tensor.buffer].data
            if content is None or len(content) == 0 or tensor.type not in names:
                continue
            values = np.frombuffer(bytes(content), _DTYPES[names[tensor.type]])
            quantized = tensor.quantization is not None and tensor.quantization.scale is not None
            if names[tensor.type].startswith("INT") and not quantized:
                continue
            name = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name
            weights[name] = _dequantize(_dense(values, tensor), tensor)
    return weights


def _dense(values: NDArray[Any], tensor: Any) -> NDArray[Any]:
    """The values in the tensor's shape, sparse storage undone."""
    shape = [int(size) for size in (tensor.shape if tensor.shape is not None else [])]
    if tensor.sparsity is None:
        return values.reshape(shape)
    dimensions = []
    for entry in tensor.sparsity.dimMetadata:
        if entry.format == schema.DimensionType.DENSE:
            dimensions.append(Dimension(int(entry.denseSize)))
        else:
            segments, indices = (np.asarray(vector.values) for vector in (entry.arraySegments, entry.arrayIndices))
            dimensions.append(Dimension(0, segments, indices))
    traversal = [int(axis) for axis in tensor.sparsity.traversalOrder]
    blocks = tensor.sparsity.blockMap
    return decode(values, shape, traversal, [int(axis) for axis in (blocks if blocks is not None else [])], dimensions)


def _dequantize(values: NDArray[Any], tensor: Any) -> NDArray[np.float32]:
    """The real values, along the quantized dimension."""
    if tensor.quantization is None or tensor.quantization.scale is None:
        return values.astype(np.float32)
    scale, zeros = np.asarray(tensor.quantization.scale, np.float32), tensor.quantization.zeroPoint
    zero = np.broadcast_to(np.asarray([0] if zeros is None else zeros, np.int64), scale.shape)
    return Grid(scale, zero, int(tensor.quantization.quantizedDimension)).dequantize(values)
