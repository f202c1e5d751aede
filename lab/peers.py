"""`lab peers`: two other sparse runtimes beside ONNX Runtime and edgeprune."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

import edgeprune
from edgeprune import EdgepruneError, runtimes
from edgeprune.mask import Array
from edgeprune.plan import Plan
from edgeprune.progress import say
from lab import forms, options, programs
from lab.block import Taken
from lab.bundles import bundle, stock
from lab.ratios import example_of
from lab.sheet import Sheet, one_by_one, say_load
from lab.tickets import NETWORKS, Cell
from lab.timing import Compared, Side, alternate, local

REQUIREMENTS = {"deepsparse": ("deepsparse==1.8.0", "numpy<2"), "mnn": ("MNN==3.6.1", "numpy<2")}
# Row -> precision, pattern, and peers with the model file each gets. MNN has no int8 sparse kernels; DeepSparse hands
# QDQ graphs whole to the ONNX Runtime inside it, so it gets them in integer operators.
ROWS = {
    "fp32 unstructured": ("fp32", "unstructured", (("deepsparse", "fp32"), ("mnn", "fp32"))),
    "fp32 block:4x1": ("fp32", "block:4x1", (("deepsparse", "fp32"), ("mnn", "fp32"))),
    "int8 block:1x4": ("int8", "block:1x4", (("deepsparse", "integer"),)),
}
OURS, DENSE = "edgeprune", "onnxruntime"
INSTALL = """
. "$1"
python=$(python_exactly 3.11) || die "the peers' packages need Python 3.11"
environment "$root/.venvs/$2" "$python" --only-binary=:all: "${@:3}"
"""


def python_of(peer: str) -> Path:
    """The Python of a peer's environment, which is made if it is not there."""
    script = programs.ROOT / "scripts" / "environment.sh"
    made = subprocess.run(["bash", "-euc", INSTALL, "lab", script, peer, *REQUIREMENTS[peer]], check=False)
    if made.returncode:
        raise EdgepruneError(f"{peer} cannot be installed", "the lines above say why")
    return programs.ROOT / ".venvs" / peer / "bin" / "python"


def stock_files(work: Path, cell: Cell) -> dict[str, Path]:
    """Model files of a cell in stock operators: "fp32", or QDQ graphs "uint8" and "int8" by the type of the activations
    and "integer", the first of them in integer operators."""
    artifact = stock(work, cell)
    if cell.precision == "fp32":
        return {"fp32": artifact.model_path}
    others = {"int8": forms.signed, "integer": forms.integer}
    return {"uint8": artifact.model_path, **{kind: forms.file_of(artifact, form) for kind, form in others.items()}}


class Peer:
    """A peer's process with one model open: a side. output: what it computes for the example, [1, n]."""

    def __init__(self, engine: str, model: Path, example: Array) -> None:
        self.engine, stem = engine, model.with_name(f"{model.parent.name}-{model.stem}-{engine}")
        entry, exit_ = stem.with_suffix(".in.npy"), stem.with_suffix(".out.npy")
        np.save(entry, example)
        command = [str(part) for part in (python_of(engine), "-m", "lab.peer_session", engine, model, entry, exit_)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(command, text=True, env=programs.environment(), **pipes)
        self._answer()
        self.output: Array = np.load(exit_)

    def _answer(self) -> str:
        assert self.process.stdout is not None and self.process.stderr is not None
        line: str = self.process.stdout.readline()
        if not line:
            last = self.process.stderr.read().strip().splitlines()[-1:]
            raise EdgepruneError(f"{self.engine} ended: {' '.join(last)}")
        return line

    def __call__(self, plan: Plan) -> Taken:
        """A block."""
        assert self.process.stdin is not None
        order = (plan.warmups, plan.samples, plan.seconds, plan.limit_seconds)
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        warmup, samples = json.loads(self._answer())
        return warmup, samples

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *problem: object) -> None:
        self.process.kill()
        self.process.communicate()


def time_row(work: Path, network: str, row: str, sparsity: float, rounds: int) -> tuple[Compared, dict[str, float]]:
    """The blocks of all sides, and for each peer the largest difference of its outputs to ONNX Runtime's on the same
    file, over the outputs' scale."""
    precision, pattern, peers = ROWS[row]
    cell = Cell(network, pattern, sparsity, precision)
    files = stock_files(work, cell)
    ours = edgeprune.load(bundle(work, cell).path)
    open_session = runtimes.load("onnxruntime").open_session
    sessions = {kind: open_session(path, 1) for kind, path in files.items() if kind != "integer"}
    example = example_of(ours)
    sides: dict[str, Side] = {OURS: local(ours, example)}
    sides |= {f"{DENSE} {kind}": local(session, example) for kind, session in sessions.items()}
    differences = {}
    with ExitStack() as stack:
        for engine, kind in peers:
            try:
                peer = stack.enter_context(Peer(engine, files[kind], example))
            except EdgepruneError as problem:
                say(f"{network}, {row}: {engine} {kind}: {problem}")
                continue
            sides[f"{engine} {kind}"] = peer
            expected = sessions.get(kind, sessions[next(iter(sessions))])(example)[0].reshape(1, -1)
            differences[f"{engine} {kind}"] = float(np.abs(peer.output - expected).max() / np.abs(expected).max())
        return alternate(sides, rounds), differences


@click.command()
@options.only("network", NETWORKS)
@options.only("row", ROWS)
@options.SPARSITY
@options.rounds(5)
@options.WORK
@options.JSON
def peers(
    networks: tuple[str, ...], rows: tuple[str, ...], sparsity: float, rounds: int, work: Path, as_json: bool
) -> None:
    """Time DeepSparse and MNN on the networks and masks of `lab kernels`, beside ONNX Runtime and edgeprune.

    DeepSparse 1.8.0 and MNN 3.6.1 (x86_64, Python 3.11) are installed into environments of their own, .venvs/deepsparse
    and .venvs/mnn. All sides of a row alternate in blocks, one thread each, batch 1. The peers read the ticket's
    network in stock operators, as export --portable writes it. --json prints {network: {row: {side: ms}}}.

    \b
    lab peers
    lab peers --network resnet18 --json
    """
    columns = ("row", "side", "ms", "least block", "edgeprune is", "difference")
    sheet = Sheet(*columns, title=f"{sparsity:g} % zeros")
    say_load()
    for network, row in one_by_one(networks or NETWORKS, rows or ROWS):
        timed, differences = time_row(work, network, row, sparsity, rounds)
        figures = {row: {side: round(timed.median_ms(side), 4) for side in timed.blocks_ns}}
        for side in timed.blocks_ns:
            ahead = "" if side == OURS else f"{timed.ratio(side, OURS).value:.2f}x"
            difference = f"{differences[side]:.1e}" if side in differences else ""
            times = f"{timed.median_ms(side):.3f}", f"{min(timed.medians_ms(side)):.3f}"
            sheet.add(network, figures, row, side, *times, ahead, difference)
    sheet.print(as_json)
