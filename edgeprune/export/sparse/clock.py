"""Kernels chosen by the clock: what each layer takes in each of its kernels, and each network as a whole, here and now.

A layer is timed where it stands, in the network, by the runtime's own profile: once with the runtime's kernels alone
and once with the library's wherever there are any, for each sparse format. Sessions run by turns and a kernel counts by
its fast runs, since whatever else a machine does only ever adds. Then these networks and the one that the layers' times
speak for are timed as a whole, in time of this thread. Noise can make a choice less good, but no result wrong: unless
the best of them is faster than the network with the runtime's own kernels, that is kept.
"""

from __future__ import annotations

import functools
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx

from edgeprune import runtimes, store
from edgeprune.artifact import Layer
from edgeprune.device.runtimes import Ask, OnnxRuntime, kernels_us
from edgeprune.device.system import read_lines
from edgeprune.errors import ExportError
from edgeprune.evidence import KernelTimes
from edgeprune.export.graph import Graph
from edgeprune.export.sparse import LayerTimes, Rewritten, rewrite, stock
from edgeprune.export.sparse.choice import DENSE, OWN, weigh
from edgeprune.export.sparse.layers import find_layers
from edgeprune.kernels import DOMAIN
from edgeprune.kernels.costs import FORMATS, Costs, Geometry
from edgeprune.kernels.profile import layers_ns
from edgeprune.mask import Array

SECONDS = 2.0  # of each comparison, shared by its sessions
FEWEST, MOST = 12, 400  # runs of each session
FAST = 0.15  # share of the runs that a time is taken from
LEAST = 100  # nanoseconds: no kernel takes less
LAYERS = "layers"
FASTER = 0.98  # the chosen network must take at most this share of the runtime's own time
KINDS = {"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(bool)": "?"}
Run = Callable[[], object]


class Forced(Costs):
    """Makes the sparse kernels of one format the cheapest for every layer. Without `pairs` each layer runs under its
    own name, by which it is timed."""

    full, worth, worth_unsure = 1.0, 0.0, 0.0

    def __init__(self, pattern: str, pairs: bool = False) -> None:
        super().__init__({})
        self.pattern, self.pairs = pattern, pairs

    def dense(self, precision: str, geometry: Geometry) -> float:
        """The runtime's own is never chosen."""
        return 1e9

    def sparse(self, precision: str, pattern: str, geometry: Geometry, blocks: int) -> float:
        """Only the wanted format is."""
        return 1.0 if pattern == self.pattern else 1e8

    def depthwise(self, precision: str, geometry: Geometry) -> float:
        """Ours is."""
        return 1.0

    def max_pool(self, form: str, taps: int, sizes: tuple[int, int, int]) -> float:
        """Ours is."""
        return 1.0 if form == "own" else 1e9

    def reorder(self, cells: int) -> float:
        """Layouts are all the same."""
        return 0.0

    def between(self, work: str, features: Mapping[str, float]) -> float:
        """Ours is."""
        return 1.0

    def tensor_work(self, work: str, form: str, cells: int) -> float:
        """Packed or not is all the same."""
        return 1.0

    def rest(self, precision: str, operator: str, cells: int, products: int = 0) -> float:
        """What ours could take the place of is slower than that."""
        return 1e9


@dataclass(frozen=True)
class Clock:
    """This machine with ONNX Runtime and the library of operators, on one thread. folder: what was measured is kept
    there, so that an export again chooses the same without measuring."""

    library: Path
    folder: Path

    def choose(self, graph: Graph, costs: Costs) -> tuple[Rewritten, KernelTimes]:
        """Like `rewrite`, by measured times; `costs` say what changes of layout take, at this machine's speed."""
        machine = f"{machine_name()}, {runtimes.load('onnxruntime').version()}, 1 thread"
        plain = stock(graph)
        known = [plain.model.SerializeToString(deterministic=True), self.library.read_bytes()]
        known += [machine.encode(), store.canonical_json(costs.constants)]
        file = self.folder / f"{store.sha256_bytes(b''.join(known))[:16]}.json"
        times = _read(file)
        if times is None:
            times = self._measure(machine, plain.model, graph, costs)
            store.write_json(file, asdict(times))
        chosen = _network(times.network, graph, costs, times.layers)
        faster = chosen.needs_library and times.chosen_ns <= FASTER * times.stock_ns
        return (chosen if faster or not chosen.needs_library else _stock(plain, chosen, times)), times

    def _measure(self, machine: str, model: onnx.ModelProto, graph: Graph, costs: Costs) -> KernelTimes:
        layers = self.layers(graph)
        found = {name: _network(name, graph, costs, layers) for name in (LAYERS, *FORMATS[graph.precision])}
        found = {name: rewritten for name, rewritten in found.items() if rewritten.needs_library}
        stock_ns, *spent = self.networks([model, *(rewritten.model for rewritten in found.values())])
        best = min(zip(spent, found), default=(0.0, LAYERS))
        if LAYERS in found and best[0] > FASTER * spent[0]:
            best = spent[0], LAYERS  # of equals the one that is known layer by layer
        return KernelTimes(machine, round(best[0]), round(stock_ns) if found else 0, best[1], layers)

    def layers(self, graph: Graph) -> LayerTimes:
        """Layer -> kernel -> nanoseconds, of every kernel that can run it."""
        forced = {pattern: rewrite(graph, Forced(pattern)).model for pattern in FORMATS[graph.precision]}
        models = {DENSE: stock(graph).model, **{name: model for name, model in forced.items() if _ours(model)}}
        found: dict[str, dict[str, float]] = {}
        for name, times in zip(models, self._profiles(list(models.values()))):
            ours = _ours(models[name])
            for layer, spent in times.items():
                if name == DENSE:
                    found.setdefault(layer, {})[DENSE] = spent
                elif layer in ours:
                    known, kernel = found.setdefault(layer, {}), OWN if "Depthwise" in ours[layer] else name
                    known[kernel] = min(spent, known.get(kernel, spent))
        return {layer.name: found[layer.name] for layer in find_layers(graph) if layer.name in found}

    def _profiles(self, models: Sequence[onnx.ModelProto]) -> list[dict[str, int]]:
        """Layer -> nanoseconds of each model, from profiles taken by turns."""
        plain = self.networks(models)
        found = []
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{index}.onnx" for index in range(len(models))]
            for model, file in zip(models, files):
                onnx.save(model, file)
            sessions = [self.session(file, file.with_suffix("")) for file in files]
            runs = [runner(session) for session in sessions]
            for _ in _turns(runs):
                for run in runs:
                    run()
            for file, session, spent in zip(files, sessions, plain):
                with runtimes.on_host():
                    events = kernels_us(session.end_profile())
                found.append(layers_ns(events, file, functools.partial(fast_ns, extra=profile_extra(events, spent))))
        return found

    def networks(self, models: Sequence[onnx.ModelProto], seconds: Optional[float] = None) -> list[float]:
        """Nanoseconds of one inference of each. seconds: None for SECONDS."""
        runs = [runner(self.session(model.SerializeToString())) for model in models]
        taken: list[list[int]] = [[] for _ in runs]
        for _ in _turns(runs, seconds):
            for run, times in zip(runs, taken):
                run()  # brings its weights back into the caches
                start = time.thread_time_ns()
                run()
                times.append(time.thread_time_ns() - start)
        return [float(np.quantile(times, FAST)) for times in taken]

    def session(self, model: Path | bytes, profile: Path | None = None) -> OnnxRuntime:
        """One of ONNX Runtime; profile: begin of the name of a profile's file, None for none."""
        source = model if isinstance(model, bytes) else str(model)
        ask = Ask(source, library=str(self.library), profile=str(profile or ""))
        with runtimes.on_host():
            return OnnxRuntime(runtimes.find("onnxruntime").module, ask)


def speed(graph: Graph, costs: Costs, layers: LayerTimes) -> float:
    """How much slower this machine is than the one that the constants come from, in the runtime's own kernels."""
    ratios = []
    for layer in find_layers(graph):
        predicted = weigh(layer, graph.precision, costs, {}, {}).dense
        measured = layers.get(layer.name, {}).get(DENSE, 0.0)
        ratios += [measured / predicted] if predicted and measured else []
    return float(np.median(ratios)) if ratios else 1.0


def fast_ns(microseconds: Sequence[int], runs: int, extra: float = 0.0) -> int:
    """The mean over a kernel's fast runs in nanoseconds; nodes of one name count together in each run. extra: what the
    profile itself adds to each kernel."""
    each = len(microseconds) // runs
    sums = np.sort(np.asarray(microseconds[: runs * each]).reshape(runs, each).sum(axis=1))
    spent = 1000 * (float(sums[: max(1, int(2 * FAST * runs))].mean()) + each / 2) - each * extra
    return max(round(spent), LEAST)


def profile_extra(events: Mapping[str, Sequence[int]], network_ns: float) -> float:
    """Nanoseconds that the profile adds to each kernel (ten microseconds on a virtual machine): what the kernels take
    together more than a whole inference does without a profile."""
    runs = min(map(len, events.values()), default=1)
    kernels = sum(len(spent) // runs for spent in events.values())
    together = sum(fast_ns(spent, runs) for spent in events.values())
    return max(0.0, (together - network_ns) / max(kernels, 1))


def _network(name: str, graph: Graph, costs: Costs, layers: LayerTimes) -> Rewritten:
    """The network of a name in `KernelTimes`, its layers' records with the measured times."""
    if name == LAYERS:
        here = costs.slowed(speed(graph, costs, layers))
        here.worth = here.worth_unsure = 0.0  # the clock will judge the whole
        return rewrite(graph, here, layers)
    forced = rewrite(graph, Forced(name, pairs=True))
    ours = _run(forced)
    records = (
        _measured(record, layers.get(record.name, {})) if record.name in ours else record for record in forced.layers
    )
    return replace(forced, layers=tuple(records))


def _measured(record: Layer, times: Mapping[str, float]) -> Layer:
    """A layer's record with what was measured of its kernel, where the whole network was chosen."""
    kernel = record.pattern or OWN
    if not {DENSE, kernel} <= times.keys():
        return record
    gain = times[DENSE] / times[kernel]
    name = f"sparse {kernel}" if record.pattern else "dense: the library's depthwise kernel"
    why = f"{name}: measured {gain:.1f}x, in the network that was measured as the fastest"
    return replace(record, why=why, predicted_gain=round(gain, 2))


def machine_name() -> str:
    """What this machine calls itself: its processor's model, or the board's."""
    names = read_lines(Path("/proc/cpuinfo"))
    return names.get("model name") or names.get("Model") or platform.machine()


def _read(file: Path) -> Optional[KernelTimes]:
    """Times measured before; None if there are none, or not whole: they are measured again."""
    try:
        content = store.read_json(file, "measured times", ExportError)
        return store.decoded(KernelTimes, content, file, "measured times", ExportError)
    except ExportError:
        return None


def _ours(model: onnx.ModelProto) -> dict[str, str]:
    """Node -> operator of the library's."""
    return {node.name: node.op_type for node in model.graph.node if node.domain == DOMAIN}


def _run(rewritten: Rewritten) -> set[str]:
    """The layers that the library runs; one that runs inside the next one's operator is no node."""
    return {*_ours(rewritten.model), *(layer.name for layer in rewritten.layers if layer.kernel == "sparse")}


def runner(opened: OnnxRuntime) -> Run:
    """One inference on an example of the model's types and shapes; integers are 0, which every table has."""
    random = np.random.default_rng(0)

    def example(entry: Any) -> Array:
        shape, kind = [size if isinstance(size, int) else 1 for size in entry.shape], KINDS[entry.type]
        return np.asarray(random.normal(size=shape) if kind == "f4" else np.zeros(shape), kind)

    return opened.bound(*map(example, opened.session.get_inputs()))


def _turns(runs: Sequence[Run], seconds: Optional[float] = None) -> Iterator[int]:
    """Rounds in which every session has its turn, after one in which it got warm."""
    for run in runs:
        run()
    end = time.monotonic() + (SECONDS if seconds is None else seconds)
    for number in range(MOST):
        if number >= FEWEST and time.monotonic() >= end:
            return
        yield number


def _stock(plain: Rewritten, chosen: Rewritten, times: KernelTimes) -> Rewritten:
    """The runtime's own kernels for all layers, with the reason where others were chosen."""
    why = f"dense: measured as a whole, the network takes {times.chosen_ns / 1e3:.0f} µs with sparse kernels and "
    why += f"{times.stock_ns / 1e3:.0f} µs without"
    ours = _run(chosen)
    records = (
        replace(record, kernel="dense", pattern="", predicted_gain=1.0, why=why) if record.name in ours else record
        for record in chosen.layers
    )
    return replace(plain, layers=tuple(records))
