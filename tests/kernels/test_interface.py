"""The runtime's C interface as `ort.h` writes it down, against the indices of the runtime's own header."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from edgeprune.kernels.build import SOURCES

# Position of each function in `struct OrtApi` of onnxruntime_c_api.h, which only ever grows at its end.
INDICES = {
    "CreateStatus": 0,
    "CreateCustomOpDomain": 26,
    "CustomOpDomain_Add": 27,
    "AddCustomOpDomain": 28,
    "GetTensorMutableData": 51,
    "GetTensorElementType": 60,
    "GetDimensionsCount": 61,
    "GetDimensions": 62,
    "GetTensorTypeAndShape": 65,
    "AllocatorAlloc": 75,
    "AllocatorFree": 76,
    "GetAllocatorWithDefaultOptions": 78,
    "KernelInfoGetAttribute_float": 85,
    "KernelInfoGetAttribute_int64": 86,
    "KernelInfoGetAttribute_string": 87,
    "KernelContext_GetInputCount": 88,
    "KernelContext_GetInput": 90,
    "KernelContext_GetOutput": 91,
    "ReleaseStatus": 93,
    "ReleaseValue": 96,
    "ReleaseTensorTypeAndShapeInfo": 99,
    "ReleaseCustomOpDomain": 101,
    "KernelInfoGetAttributeArray_float": 162,
    "KernelInfoGetAttributeArray_int64": 163,
    "KernelInfo_GetInputCount": 230,
    "KernelInfoGetAttribute_tensor": 236,
    "KernelInfoGetConstantInput_tensor": 249,
    "KernelContext_ParallelFor": 274,
}
# Members of `struct OrtCustomOp` in the header's order, as far as version 17 has them; the first is an integer.
CUSTOM_OP = (
    "version", "CreateKernel", "GetName", "GetExecutionProviderType", "GetInputType", "GetInputTypeCount",
    "GetOutputType", "GetOutputTypeCount", "KernelCompute", "KernelDestroy", "GetInputCharacteristic",
    "GetOutputCharacteristic", "GetInputMemoryType", "GetVariadicInputMinArity", "GetVariadicInputHomogeneity",
    "GetVariadicOutputMinArity", "GetVariadicOutputHomogeneity", "CreateKernelV2", "KernelComputeV2",
    "InferOutputShapeFn", "GetStartVersion", "GetEndVersion", "GetMayInplace", "ReleaseMayInplace", "GetAliasMap",
    "ReleaseAliasMap",
)  # fmt: skip


def test_members_lie_where_the_runtimes_header_has_them(tmp_path: Path) -> None:
    expected = [("OrtApi", name, index) for name, index in INDICES.items()]
    expected += [("OrtCustomOp", name, index) for index, name in enumerate(CUSTOM_OP)]
    lines = [
        f'_Static_assert(offsetof({struct}, {name}) == {index} * sizeof(void *), "{name}");'
        for struct, name, index in expected
    ]
    lines.append(f'_Static_assert(sizeof(OrtCustomOp) == {len(CUSTOM_OP)} * sizeof(void *), "size");')
    program = tmp_path / "interface.c"
    program.write_text("\n".join(['#include "ort.h"', *lines, ""]))
    command = [sys.executable, "-m", "ziglang", "cc", "-std=gnu11", f"-I{SOURCES}", "-c", program.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_every_member_is_checked() -> None:
    written = re.findall(r"FUNCTION\((\d+), [^,]+, (\w+)", (SOURCES / "ort.h").read_text())
    assert {name: int(index) for index, name in written} == INDICES
