"""`python -m lab COMMAND`: one module of this folder a command, loaded when it is asked for."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Optional

import click

from edgeprune.errors import EdgepruneError, ExitCode
from edgeprune.progress import say

COMMANDS = ("costs", "exports", "instructions", "kernels", "noise", "peers", "plans", "zoo")


class Laboratory(click.Group):
    """The commands by name. None loads PyTorch before it has to, which would take cores and memory beside what is
    timed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """The function in the module of the same name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"lab.{cmd_name}"), cmd_name)
        return command


@click.command(cls=Laboratory, context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """Measure the sparse kernels, their cost model, and what `edgeprune bench` can tell apart."""


def main() -> int:
    """Run a command; what it raises becomes one line and the exit code."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        lab.main(prog_name="lab", standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
    except EdgepruneError as problem:
        say(f"lab: {problem}")
        return problem.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("lab: interrupted; what was exported or recorded is kept")
        return ExitCode.ENDED + signal.SIGINT
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
