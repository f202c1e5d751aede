"""Compiles the operators' library of one architecture with the C compiler that the ziglang package brings.

No libc and no headers of the machine are used, so both architectures can be built anywhere. Standard library only: the
package's build loads this file by its path, before the package exists.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "src"
# Compiled once for each level, with all bodies of its folder; the other sources once.
LEVEL_SOURCE = SOURCES / "levels" / "level.c"
# Level -> -mcpu; docs/kernels.md says which machines have which.
LEVELS = {
    "x86_64": {
        "sse2": "x86_64",
        "avx2": "x86_64_v3",
        "avx512": "x86_64_v4",
        "avx512vnni": "x86_64_v4+avx512vnni+avx512vbmi",
    },
    "aarch64": {"neon": "generic", "dotprod": "generic+dotprod", "i8mm": "generic+dotprod+i8mm"},
}
BASELINE = {"x86_64": "x86_64", "aarch64": "generic"}
# No contraction: what the integer operators compute is specified operation by operation.
FLAGS = (
    "-std=gnu11", "-O3", "-ffp-contract=off", "-fPIC", "-ffreestanding", "-fvisibility=hidden", "-fno-stack-protector",
    "-fno-sanitize=all", "-fno-math-errno", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-g0",
)  # fmt: skip


def build(arch: str, out: Path) -> None:
    """Compile the library for "x86_64" or "aarch64" (Linux) into the file `out`, in place of what was there.

    Raises KeyError for another architecture, ModuleNotFoundError without ziglang, RuntimeError with the compiler's
    message if it fails.
    """
    levels, baseline = LEVELS[arch], BASELINE[arch]
    jobs = [(LEVEL_SOURCE, f"level_{name}", cpu, [f"-DLEVEL={name}"]) for name, cpu in levels.items()]
    jobs += [(path, path.stem, baseline, []) for path in sorted(SOURCES.glob("*.c"))]
    out.parent.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".building-") as work, ThreadPoolExecutor(cores) as pool:
        objects = [Path(work) / f"{stem}.o" for _, stem, _, _ in jobs]

        def compile_one(job: tuple[Path, str, str, list[str]], to: Path) -> None:
            source, _, cpu, extra = job
            _zig_cc(arch, cpu, [*FLAGS, f"-I{SOURCES}", *extra, "-c", str(source), "-o", str(to)])

        list(pool.map(compile_one, jobs, objects))
        library = Path(work) / out.name
        link = ["-shared", "-nostdlib", "-s", "-Wl,-z,noexecstack", "-Wl,-soname,libedgeprune.so"]
        _zig_cc(arch, baseline, [*link, *map(str, objects), "-o", str(library)])
        library.replace(out)


def _zig_cc(arch: str, cpu: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-musl", f"-mcpu={cpu}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        if "No module named" in done.stderr:
            raise ModuleNotFoundError("compiling the kernels needs the ziglang package; run: pip install ziglang")
        raise RuntimeError(f"compiling the kernels for {arch} failed:\n{done.stderr.strip()}")
