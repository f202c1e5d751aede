"""The sanitizer harness: compiled by the machine's gcc, its case files written and its results read."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edgeprune.kernels.build import LEVEL_SOURCE, LEVELS, SOURCES
from tests.kernels.arm64_cases import Cases

Array = NDArray[Any]
HERE = Path(__file__).parent
MACHINE = "x86_64"
COMMON = (
    "-std=gnu11", "-g1", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-math-errno",
    "-fno-omit-frame-pointer",
)  # fmt: skip
MEMORY = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
THREADS = ("-fsanitize=thread",)
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
FLAGS = {"sse2": (), "avx2": AVX2, "avx512": AVX512, "avx512vnni": (*AVX512, "-mavx512vnni", "-mavx512vbmi")}
# ONNX Runtime's numbers of the element types.
TYPES = {1: np.dtype(np.float32), 2: np.dtype(np.uint8), 3: np.dtype(np.int8), 6: np.dtype(np.int32)}
INT, FLOAT, INTS = range(3)


def missing(sanitizers: tuple[str, ...]) -> str:
    """Why the harness cannot be built here, or "": it takes gcc, the sanitizers' libraries and an x86_64."""
    if platform.machine() != MACHINE:
        return f"the sanitizer harness runs on {MACHINE}"
    if shutil.which("gcc") is None:
        return "no gcc"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        source.write_text("int main(void) { return 0; }\n")
        command = ["gcc", *sanitizers, str(source), "-o", str(source.with_suffix(""))]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return f"gcc cannot link {sanitizers[0]}"
        if subprocess.run([str(source.with_suffix(""))], capture_output=True, check=False).returncode:
            return f"a program with {sanitizers[0]} does not run"
    return ""


def digest(sanitizers: tuple[str, ...]) -> str:
    """Of all that a harness is made from, the compiler included."""
    sources = [path for path in sorted(SOURCES.rglob("*")) if path.is_file()] + sorted(HERE.glob("*.[ch]"))
    made_by = gcc("--version"), COMMON, FLAGS, sanitizers
    content = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in sources)
    return hashlib.sha256(repr(made_by).encode() + content).hexdigest()[:16]


def compile_harness(sanitizers: tuple[str, ...], out: Path) -> None:
    """The harness and the kernels' own sources into two programs in the folder `out`, which appears when both are
    there: "exact" with every piece of scratch memory as large as asked for, "kept" with the kernels' own way to keep
    it between runs."""
    jobs = [(LEVEL_SOURCE, f"level_{name}", (f"-DLEVEL={name}", *FLAGS[name])) for name in reversed(LEVELS[MACHINE])]
    # libc has what freestanding.c brings.
    jobs += [(path, path.stem, ()) for path in sorted(SOURCES.glob("*.c")) if path.name != "freestanding.c"]
    jobs += [(path, path.stem, ()) for path in sorted(HERE.glob("*.c"))]

    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".building-") as work, ThreadPoolExecutor(2) as pool:
        programs = Path(work) / "programs"
        programs.mkdir()
        objects = {stem: f"{work}/{stem}.o" for _, stem, _ in jobs}

        def compile_one(job: tuple[Path, str, tuple[str, ...]]) -> None:
            source, stem, extra = job
            gcc(*COMMON, *sanitizers, *extra, f"-I{SOURCES}", "-c", str(source), "-o", objects[stem])

        list(pool.map(compile_one, jobs))
        for name, other in (("exact", "scratch"), ("kept", "exact_scratch")):
            linked = [path for stem, path in objects.items() if stem != other]
            gcc(*sanitizers, *linked, "-pthread", "-o", str(programs / name))
        programs.replace(out)


def gcc(*arguments: str) -> str:
    done = subprocess.run(["gcc", *arguments], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def run(harness: Path, *arguments: Union[str, int, Path], level: str = "") -> str:
    """Standard output of the harness; fails with the sanitizer's report if it does not end well."""
    environment = {
        **os.environ,
        "EDGEPRUNE_KERNELS_LEVEL": level,
        # The harness counts what is allocated itself, operator by operator; the leak checker needs ptrace, too.
        "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1:"
        "max_uar_stack_size_log=16",
        "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    command = [str(harness), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert not done.returncode, done.stderr[-6000:]
    return done.stdout


def write_cases(cases: Cases, path: Path) -> None:
    outputs = list(cases.outputs)
    parts = [struct.pack("<III", len(cases.inputs) + len(cases.weights), len(cases.nodes), len(outputs))]
    parts += [_tensor(name, array, 0) for name, array in cases.inputs.items()]
    parts += [_tensor(name, array, 1) for name, array in cases.weights.items()]
    parts += [_node(node) for node in cases.nodes]
    parts += [_name(name) for name in outputs]
    path.write_bytes(b"".join(parts))


def read_results(cases: Cases, path: Path) -> dict[str, Array]:
    data, at, results = path.read_bytes(), 0, {}
    for name in cases.outputs:
        kind, rank = struct.unpack_from("<II", data, at)
        shape = struct.unpack_from(f"<{rank}q", data, at + 8)
        count, at = int(np.prod(shape)), at + 8 + 8 * rank
        results[name] = np.frombuffer(data, TYPES[kind], count, at).reshape(shape)
        at += results[name].nbytes
    assert at == len(data)
    return results


def _name(name: str) -> bytes:
    return struct.pack("<I", len(name)) + name.encode()


def _tensor(name: str, array: Array, constant: int) -> bytes:
    kind = {dtype: number for number, dtype in TYPES.items()}[array.dtype]
    head = struct.pack(f"<III{array.ndim}q", kind, constant, array.ndim, *array.shape)
    return _name(name) + head + np.ascontiguousarray(array).tobytes()


def _node(node: NodeProto) -> bytes:
    parts = [_name(node.op_type), struct.pack("<I", len(node.input)), *map(_name, node.input)]
    parts.append(struct.pack("<I", len(node.attribute)))
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        kind = INTS if isinstance(value, list) else FLOAT if isinstance(value, float) else INT
        ints = value if kind == INTS else [value] if kind == INT else []
        number = value if kind == FLOAT else 0.0
        parts.append(_name(attribute.name) + struct.pack(f"<IIf{len(ints)}q", kind, len(ints), number, *ints))
    return b"".join([*parts, struct.pack("<I", len(node.output)), *map(_name, node.output)])
