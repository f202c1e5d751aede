"""The sparse kernels for ONNX Runtime: a library of custom operators for each architecture, and its weights' format."""

from __future__ import annotations

from pathlib import Path

from edgeprune.errors import ExportError

DOMAIN = "edgeprune"
ARCHITECTURES = ("x86_64", "aarch64")


def library(arch: str) -> Path:
    """The shared library with the operators for an architecture, as it was built when the package was installed."""
    path = Path(__file__).parent / "lib" / f"libedgeprune-{arch}.so"
    if arch not in ARCHITECTURES:
        raise ExportError(f"no kernel library for {arch}", "use a bundle from: edgeprune export --portable")
    if not path.is_file():
        raise ExportError(
            f"no kernel library for {arch}",
            "reinstall edgeprune from a wheel, or with: pip install --force-reinstall .",
        )
    return path
