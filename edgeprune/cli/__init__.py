"""The command line: options to specs, events to lines, errors to exit codes. Nothing else.

A command prints the path of what it wrote on stdout, and everything else on stderr.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import NoReturn, Optional

import click

from edgeprune import __version__
from edgeprune.cli import devices, faults, forecasts, reports, tickets
from edgeprune.cli.parts import EXIT_CODES
from edgeprune.errors import EdgepruneError, ExitCode
from edgeprune.progress import say

GO_ON = ("find", "bench")  # these keep what they did; the others begin anew


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="edgeprune")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def cli(debug: bool) -> None:
    """Take lottery tickets from PyTorch onto edge devices: smaller and faster, measured.

    \b
    edgeprune find digits                 find a ticket
    edgeprune export --target rpi4        build verified bundles from the newest ticket
    edgeprune bench --target local        measure the newest bundle against its dense twin
    edgeprune report                      write one HTML page about it all
    """


for command in (
    forecasts.plan, tickets.find, tickets.export, devices.bench, devices.doctor, devices.gate, reports.report,
    reports.inspect, reports.tasks, reports.targets,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Entry point: run the command and translate what it raises into one line and an exit code."""
    with _asked_to_end() as asked:
        try:
            code = cli.main(standalone_mode=False) or ExitCode.DONE
            sys.stdout.flush()
            sys.exit(code)
        except SystemExit:
            raise
        except BaseException as problem:
            # Frameworks turn the interruption that goes through them into errors of their own.
            explained = _interrupted(asked[0]) if asked else _explain(problem)
            if explained is None:
                raise
            code = explained
            if "--debug" in sys.argv[1:]:
                traceback.print_exc()
        _forget_output()
    sys.exit(code)


@contextlib.contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP end as Ctrl-C does, by way of every `finally`; the second signal ends at once. Gives the
    numbers of the signals that came."""
    asked: list[int] = []

    def stop(number: int, _frame: Optional[object]) -> NoReturn:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    def swallowed(lost: sys.UnraisableHookArgs) -> None:
        """A signal that came while an object was thrown away is lost there: it is sent once more, in a moment."""
        if not (asked and issubclass(lost.exc_type, KeyboardInterrupt)):
            hook(lost)
            return
        signal.signal(asked[-1], stop)
        again = threading.Timer(0.05, os.kill, (os.getpid(), asked[-1]))
        again.daemon = True
        again.start()

    before, hook = {}, sys.unraisablehook
    sys.unraisablehook = swallowed
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # nohup ignores one of them
                before[number] = signal.signal(number, stop)
    try:
        yield asked
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(number: int) -> int:
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    goes_on = command in GO_ON and "--emulate" not in sys.argv
    step = (
        "what is finished is kept, and the same command continues from there" if goes_on else "give the command again"
    )
    _tell(f"interrupted; {step}")
    return ExitCode.ENDED + number


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone, or the disk is full that stderr goes to
        say(line)


def _forget_output() -> None:
    """What could not be written would be tried again, and told of again, as Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _explain(problem: BaseException) -> Optional[int]:
    """Print one line about a problem and give the exit code; None for an error that is no fault of the input."""
    if isinstance(problem, click.ClickException):
        with contextlib.suppress(OSError):
            problem.show()
        return problem.exit_code
    if isinstance(problem, EdgepruneError):
        _tell(f"error: {problem}")
        return problem.exit_code
    if isinstance(problem, BrokenPipeError):  # whoever read the output has read enough
        return ExitCode.FAILED
    if isinstance(problem, OSError):
        line = faults.line(problem)
        if line:
            _tell(f"error: {line}")
        return ExitCode.BAD_INPUT if line else None
    if isinstance(problem, (click.Abort, KeyboardInterrupt)):
        return _interrupted(signal.SIGINT)
    return None
