"""What is printed while work goes on: bars on a terminal, plain lines otherwise, always on stderr."""

from __future__ import annotations

import sys
import time

PLAIN_SECONDS = 5.0


def show_seconds(seconds: float) -> str:
    """12.3 -> "12 s", 130 -> "2 min 10 s", 4000 -> "1 h 07 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class ProgressDisplay:
    """One bar over a known amount of work, with a line for each thing done. Use as a context manager.

    On a terminal the bar shows the time left; elsewhere an update is a plain line, at most one every 5 seconds.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._done = 0.0
        # What an earlier process finished took no time now, so it must not enter the estimate.
        self._skipped = 0.0
        self._began = self._last_plain = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, left="")

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _left(self) -> str:
        done = self._done - self._skipped
        if done <= 0:
            return ""
        rate = (time.monotonic() - self._began) / done
        return show_seconds(rate * (self._total - self._done)) + " left"

    def update(self, done: float, text: str) -> None:
        """`done` of the total is finished now; `text` says what is being worked on."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text, left=self._left())
        elif time.monotonic() - self._last_plain >= PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            left = self._left()
            say(f"  {text}{', ' + left if left else ''}")

    def skip(self, amount: float) -> None:
        """`amount` of the work was finished before this process began."""
        self._skipped += amount

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            say(text)


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """One warning line on stderr."""
    say(f"warning: {text}")
