"""Before `find` trains: what export will refuse, and where the zeros are predicted to gain nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from edgeprune.errors import ExportError, RefusedError
from edgeprune.progress import say, show_seconds, warn

if TYPE_CHECKING:
    from edgeprune.export import Rehearsed
    from edgeprune.find import Problem

LATER = "change that, or find the ticket anyway with --export-later"


def check_export(problem: Problem, target: Optional[str], out: Path) -> None:
    """Rehearse the export of a network that is still to be trained; ExportError if no cell can be built.

    target: None for every runtime. A run that has begun was checked when it did.
    """
    from edgeprune.export import rehearse
    from edgeprune.find import folder_of, sketch

    if folder_of(problem, out).exists():
        return
    cells = _cells(target)
    names = ", ".join(dict.fromkeys(runtime for _, runtime, _ in cells))
    say(f"checking that it can be exported for {target or names} ...")
    began = time.monotonic()
    model, masks = sketch(problem)
    inputs, channels = problem.data.validation.inputs, problem.pruner.pattern.whole_channels
    try:
        results = list(rehearse(model, masks, inputs, channels, cells))
    except RefusedError as refused:
        raise RefusedError("this network cannot be exported", refused.refusals, LATER) from None
    except ExportError as refused:
        hint = f"{refused.hint}; or find the ticket anyway with --export-later" if refused.hint else LATER
        raise ExportError(f"this network cannot be exported: {refused.message}", hint) from None
    _judge(results, target, began)
    _say_gain(results, problem.spec.pattern, target)


def _cells(target: Optional[str]) -> list[tuple[str, str, str]]:
    """Architecture, runtime and precision of all that a target lists, or of all that there is."""
    from edgeprune import runtimes
    from edgeprune.target import load_target

    if target:
        machine = load_target(target)
        return [(machine.arch, *cell) for cell in machine.cells()]
    return [("any", name, precision) for name in runtimes.names() for precision in runtimes.load(name).PRECISIONS]


def _judge(results: list[Rehearsed], target: Optional[str], began: float) -> None:
    """Warn of each refusal once, with the precisions that it concerns; an error where nothing else is left."""
    refused: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.error is not None:
            refused.setdefault((result.runtime, str(result.error)), []).append(result.precision)
    lines = [f"{runtime} {' and '.join(kinds)}: {text}" for (runtime, text), kinds in refused.items()]
    if all(result.error is not None for result in results):
        where = f"for {target}" if target else "for any runtime"
        raise ExportError(f"this network cannot be exported {where}: {'; '.join(lines)}", LATER)
    for line in lines:
        warn(f"cannot be exported: {line}")
    built = _words(result for result in results if result.error is None)
    say(f"it can be exported: {built} ({show_seconds(time.monotonic() - began)})")


def _words(results: Iterable[Rehearsed]) -> str:
    """The cells, such as "litert (fp32, int8), onnxruntime (fp32)"."""
    kinds: dict[str, list[str]] = {}
    for result in results:
        kinds.setdefault(result.runtime, []).append(result.precision)
    return ", ".join(f"{runtime} ({', '.join(precisions)})" for runtime, precisions in kinds.items())


def _say_gain(results: list[Rehearsed], pattern: str, target: Optional[str]) -> None:
    """Where the zeros are predicted to be of no use for the time that the network takes."""
    can = [result for result in results if result.error is None]
    faster, idle = [result for result in can if result.faster], _words(result for result in can if not result.faster)
    if not faster:
        warn(f"with pattern {pattern} nothing is predicted to run faster in {idle}{_step(pattern, target)}")
    elif idle:
        say(f"with pattern {pattern} layers are predicted to run faster in {_words(faster)}, none in {idle}")
    gains = [f"{result.gain:.1f}x in {result.runtime} {result.precision}" for result in can if result.gain > 1]
    if gains:
        say(f"predicted gain of the whole network: {', '.join(gains)}; edgeprune plan lists its layers")


def _step(pattern: str, target: Optional[str]) -> str:
    """What may gain something: patterns that pay off there, and fewer weights where the pattern is one of them."""
    from edgeprune.target import load_target, target_names

    devices = [load_target(name) for name in ([target] if target else target_names())]
    paying = dict.fromkeys(choice.pattern for device in devices for choice in device.paying)
    others = [name for name in paying if name != pattern]
    steps = [f"--pattern {' or '.join(others)}"] * bool(others)
    if pattern in paying:
        steps.append("a lower density (--density)")
    return f": try {', or '.join(steps)}" if steps else ""
