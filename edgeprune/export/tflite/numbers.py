"""Between float32 and int8: QUANTIZE and DEQUANTIZE."""

from __future__ import annotations

from edgeprune.export.graph import Node
from edgeprune.export.tflite.file import options_of
from edgeprune.export.tflite.writer import Writer


def quantize(writer: Writer, node: Node) -> None:
    """QuantizeLinear."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("QUANTIZE", [value.tensor], output, options_of("Quantize"))


def dequantize(writer: Writer, node: Node) -> None:
    """DequantizeLinear."""
    value = writer.value(node, 0)
    output = writer.produce(node.output, value.axes, value.columns)
    writer.operator("DEQUANTIZE", [value.tensor], output, options_of("Dequantize"))
