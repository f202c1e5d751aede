"""Hatchling's build hook: compile the kernel libraries of every architecture into edgeprune/kernels/lib.

It runs for a wheel and for an editable install, in an isolated environment that has ziglang and nothing else of the
toolchain, and does nothing if the libraries there already come from these sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = ("x86_64", "aarch64")


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds what is missing or older than its sources.

    The wheel stays py3-none-any: Python never imports the libraries, ONNX Runtime opens the one of its machine, both
    lie in every wheel, since a host exports for devices of the other architecture, and neither needs a libc.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Leave the libraries of all architectures in place, or end the build with what the compiler said."""
        kernels = Path(self.root) / "edgeprune" / "kernels"
        try:
            build_libraries(kernels)
        except Exception as problem:  # noqa: BLE001  whatever it is, no wheel may come out without its libraries
            self.app.abort(f"the kernel libraries cannot be built: {problem}")


def build_libraries(kernels: Path) -> bool:
    """Build the libraries in kernels/lib unless they come from these very sources; True if something was built."""
    folder, wanted = kernels / "lib", fingerprint(kernels)
    stamp = folder / "sources.sha256"
    libraries = {arch: folder / f"libedgeprune-{arch}.so" for arch in ARCHITECTURES}
    if stamp.is_file() and stamp.read_text() == wanted and all(path.is_file() for path in libraries.values()):
        return False
    compiler = load_by_path(kernels / "build.py")
    for arch, path in libraries.items():
        compiler.build(arch, path)
    stamp.write_text(wanted)
    return True


def fingerprint(kernels: Path) -> str:
    """SHA-256 over all that the libraries come from: sources, build script, compiler."""
    digest = hashlib.sha256(metadata.version("ziglang").encode())
    for path in (kernels / "build.py", *sorted((kernels / "src").rglob("*"))):
        if path.is_file():
            digest.update(f"\0{path.relative_to(kernels).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def load_by_path(path: Path) -> ModuleType:
    """A module of a package that is not installed while it is being built."""
    spec = importlib.util.spec_from_file_location(f"edgeprune_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
