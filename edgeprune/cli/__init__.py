"""The command line: options to specs, events to lines, errors to exit codes. Nothing else.

Exit codes: 0 done; 1 a run or a gate failed; 2 usage or bad input; 3 the device's state forbids a fair measurement; 4 a
gate's interval straddles its budget; 130 interrupted. A command prints the path of what it wrote on stdout, and
everything else on stderr.
"""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Optional

import click

from edgeprune import __version__
from edgeprune.cli import devices, reports, tickets
from edgeprune.errors import EdgepruneError
from edgeprune.progress import say


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    tickets.find, tickets.export, devices.bench, devices.doctor, devices.gate, reports.report, reports.inspect,
    reports.tasks, reports.targets,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Entry point: run the command and translate what it raises into one line and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except (EdgepruneError, click.ClickException, click.Abort, KeyboardInterrupt, OSError) as problem:
        code = _explain(problem)
        if code is None:
            raise
        if "--debug" in sys.argv[1:]:
            traceback.print_exc()
    sys.exit(code)


def _explain(problem: BaseException) -> Optional[int]:
    """Print one line about a problem and give the exit code; None for an error that is no fault of the input."""
    if isinstance(problem, click.ClickException):
        problem.show()
        return problem.exit_code
    if isinstance(problem, EdgepruneError):
        say(f"error: {problem}")
        return problem.exit_code
    if isinstance(problem, OSError):
        line = _disk_line(problem)
        if line:
            say(f"error: {line}")
        return 2 if line else None
    say("interrupted; what is finished is kept, and the same command goes on from there")
    return 130


def _disk_line(problem: OSError) -> str:
    """The line for a full disk or a forbidden file, "" for errors that are no fault of the disk."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"cannot write {problem.filename or 'a file'}: {problem.strerror}; free some space and run it again"
    if problem.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR):
        return f"cannot use {problem.filename}: {problem.strerror}; choose another folder with --out"
    return ""
