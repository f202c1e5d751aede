"""Opening a runtime, here and nowhere else: on a device, on an emulated one, and on the host."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Union

from . import Failure
from .loading import OLDER, UNKNOWN, NotInstalled, import_module, loading_problem

ON_DEVICE = " on the device"  # where, for `find`
NEWER_SYSTEM = "use a newer system, or a bundle exported with --portable"
LITERT_PACKAGES = {  # in order of preference: the maintained one, the last for old devices, the whole of TensorFlow
    "ai_edge_litert.interpreter": "ai-edge-litert",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow.lite.python.interpreter": "tensorflow",
}
CPU_PROVIDER = "CPUExecutionProvider"
VARIABLES = {"ORT_DISABLE_TELEMETRY": "1"}  # official Linux builds from 1.29 on send some unless told not to
# For a GPU: float32 is not rounded to 10 bits of mantissa; TensorRT may choose kernels for 2:4 sparse weights.
GPU_VARIABLES = {"NVIDIA_TF32_OVERRIDE": "0", "ORT_TENSORRT_SPARSITY_ENABLE": "1"}
Run = Callable[..., "list[Any]"]  # the inputs [n, ...], in the file's order -> the list of outputs [n, ...]


@dataclass(frozen=True)
class Found:
    """A runtime's module, with the name and version of the package that it comes from."""

    module: Any
    name: str
    version: str


def find_package(package: str, where: str = "") -> Found:
    """A package whose module has its name; Failure that says why there is none (where: in which place)."""
    module = import_module(package, package, where)
    return Found(module, package, module.__version__)


@dataclass(frozen=True)
class Ask:
    """What to open. model: path of the file, or its bytes (for ONNX Runtime). library: path of that of the operators
    which the model brings along, or "". providers: ONNX Runtime's execution providers in order of preference; those
    that this build lacks are passed over, and the CPU is always the last. profile: begin of the name of the file that
    ONNX Runtime writes a profile to, or "". optimize: False has it run the nodes as they are."""

    model: Union[str, bytes]
    threads: int = 1
    library: str = ""
    providers: Sequence[str] = ()
    profile: str = ""
    optimize: bool = True


class LibraryRefused(Failure):
    """The library of operators does not load. said: by the runtime; means: that in our words, or ""; step: what helps
    then, or ""."""

    def __init__(self, library: str, said: str) -> None:
        means, step = loading_problem("the bundle", said)
        self.said, self.means = " ".join(said.split()), "" if means == UNKNOWN else means
        if step == OLDER.format(package="the bundle"):
            step = NEWER_SYSTEM
        self.step = "" if "pip install" in step else step  # it comes with no package
        meaning = f"it {means}: " if self.step else ""
        message = f"{library} does not load on this {platform.machine()}: {meaning}{self.said}"
        super().__init__(message, self.step or "bench the bundle on its own target")


class OnnxRuntime:
    """An .onnx file in ONNX Runtime. run: runs one set of inputs; facts: the providers that the session got, where some
    were asked for (the runtime itself passes over one whose libraries do not load)."""

    profiles = True

    @staticmethod
    def find(where: str = "") -> Found:
        """ONNX Runtime, 1.17 or later; Failure that says why there is none."""
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
        return find_package("onnxruntime", where)

    def __init__(self, module: Any, ask: Ask) -> None:
        options = module.SessionOptions()
        options.intra_op_num_threads = ask.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not ask.optimize:
            options.graph_optimization_level = module.GraphOptimizationLevel.ORT_DISABLE_ALL
        if ask.profile:
            options.enable_profiling, options.profile_file_prefix = True, ask.profile
        if ask.library:
            try:
                # A relative path would be looked for in the system's folders.
                options.register_custom_ops_library(os.path.abspath(ask.library))
            except Exception as problem:  # noqa: BLE001  the binding raises its own classes, derived from Exception alone
                raise LibraryRefused(ask.library, str(problem)) from None
        offered = module.get_available_providers() if ask.providers else []
        chosen = [name for name in ask.providers if name in offered and name != CPU_PROVIDER]
        self.session = session = module.InferenceSession(ask.model, options, providers=[*chosen, CPU_PROVIDER])
        self.names = names = [entry.name for entry in session.get_inputs()]
        self.run: Run = lambda *arrays: list(session.run(None, dict(zip(names, arrays))))
        self.facts = {"providers": session.get_providers()} if ask.providers else {}

    def bound(self, *arrays: Any) -> Callable[[], list[Any]]:
        """An inference of these inputs."""
        session, feed = self.session, dict(zip(self.names, arrays))
        return lambda: list(session.run(None, feed))

    def end_profile(self) -> bytes:
        """What the profiler wrote, to its end; b"" if it could not. The file is removed."""
        file = Path(self.session.end_profiling())
        written = file.read_bytes() if file.exists() else b""
        file.unlink(missing_ok=True)
        return written


def kernels_us(profile: bytes, where: str = "") -> dict[str, list[int]]:
    """Node name -> microseconds (whole ones, rounded down) in its kernel in each run, as ONNX Runtime's profiler saw;
    Failure if the profile is not whole (where: in which place)."""
    try:
        events = json.loads(profile)
    except ValueError:  # the runtime itself says nothing of a disk that is full
        raise Failure(
            f"ONNX Runtime's profile is missing or cut short: most likely there is no space left{where}",
            "free some space there" if where else "free some space, or set TMPDIR to a folder on another disk",
        ) from None
    times: dict[str, list[int]] = {}
    for event in events:
        node, is_kernel, _ = event["name"].partition("_kernel_time")
        if is_kernel:
            times.setdefault(node, []).append(event["dur"])
    return times


class LiteRt:
    """A .tflite file in LiteRT, with the interpreter's default delegate (XNNPACK). run: runs inputs of the file's own
    shapes; entries, exits: details of the inputs and outputs."""

    profiles = False

    @staticmethod
    def find(where: str = "") -> Found:
        """The first interpreter that can be imported, whatever the ones before it lack; Failure if there is none."""
        from importlib.metadata import PackageNotFoundError, version

        failures: list[Failure] = []
        for name, package in LITERT_PACKAGES.items():
            try:
                module = import_module(package, name, where)
            except Failure as failure:
                failures.append(failure)
                continue
            try:
                return Found(module, package, version(package))
            except PackageNotFoundError:  # tensorflow goes by several names, such as tensorflow-cpu
                top = sys.modules.get(name.split(".")[0])
                return Found(module, package, str(getattr(top, "__version__", "unknown")))
        lacking = "; ".join(map(str, failures))
        broken = [failure for failure in failures if not isinstance(failure, NotInstalled)]
        if broken:
            raise Failure(f"no LiteRT interpreter works{where}: {lacking}", broken[0].hint)
        raise Failure(f"no LiteRT interpreter is installed{where} ({lacking})", failures[0].hint)

    def __init__(self, module: Any, ask: Ask) -> None:
        interpreter = module.Interpreter(model_path=ask.model, num_threads=ask.threads)
        interpreter.allocate_tensors()
        self.entries, self.exits = interpreter.get_input_details(), interpreter.get_output_details()
        places, exits = ([detail["index"] for detail in details] for details in (self.entries, self.exits))

        def run(*arrays: Any) -> list[Any]:
            for place, array in zip(places, arrays):
                interpreter.set_tensor(place, array)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in exits]

        self.run: Run = run
        self.facts: dict[str, Any] = {}

    def bound(self, *arrays: Any) -> Callable[[], list[Any]]:
        """An inference of these inputs."""
        return lambda: self.run(*arrays)

    def end_profile(self) -> bytes:
        """It has no profiler."""
        return b"[]"


Runtime = Union[OnnxRuntime, LiteRt]
RUNTIMES: dict[str, type[Runtime]] = {"onnxruntime": OnnxRuntime, "litert": LiteRt}


def runtime_of(name: str) -> type[Runtime]:
    """What opens a runtime's files; Failure for a name that this folder does not know."""
    if name not in RUNTIMES:
        raise Failure(f"this agent does not know the runtime {name!r}", f"known: {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def find_runtime(name: str, where: str = "") -> Found:
    """The runtime of a name; Failure that says why there is none."""
    return runtime_of(name).find(where)
