"""Every error that edgeprune raises on purpose.

    EdgepruneError               message, hint, exit_code: BAD_INPUT unless a class says otherwise
      TaskError                  a task that cannot be found, imported, built or trained
      TicketError                a ticket or a run that is missing, damaged, locked or from another version
      PatternError               a pattern that does not exist or cannot reach the density asked for
      TargetError                a target file that is missing or wrong
      ExportError                a model that cannot be converted; a damaged artifact
        RefusedError             operations of a network that cannot be converted, all that there are
        VerificationError        an artifact that was built but does not do what the ticket does: FAILED
      MeasurementError           a damaged measurement file
      DeviceError                the device refused or failed: FAILED
        DeviceTransientError     a timeout or a dropped connection: the only error that is retried
        UnfairConditionsError    the device's state forbids a fair measurement: UNFAIR

A message is one line that says what is wrong, what was got and what was expected; the hint is the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

PLACES_SHOWN = 6


class ExitCode(IntEnum):
    """What a command ends with. meaning: as `--help` and docs/commands.md have it."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """A member from its number and meaning."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code

    DONE = 0, "done; `gate`: every budget is kept"
    FAILED = (
        1,
        "the run failed: a bundle does not do what the ticket does, or a device failed; `gate`: a budget is broken; "
        "`doctor`: something is missing",
    )
    BAD_INPUT = 2, "usage or bad input; the line says what, what was expected and the next step"
    UNFAIR = 3, "the state of the device forbids a fair measurement; the line says how to change it"
    INCONCLUSIVE = 4, "`gate`: no budget is broken, but at least one cannot be decided: measure more, or elsewhere"
    ENDED = 128, "ended by signal n (130: Ctrl-C); what is finished is kept"

    @property
    def label(self) -> str:
        """The number, as a user is shown it."""
        return f"{self.value} + n" if self is ExitCode.ENDED else str(self.value)


class EdgepruneError(Exception):
    """Base of all errors. `hint` is the next step for the user; `exit_code` is what the command exits with."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class TaskError(EdgepruneError):
    """A task that cannot be found, imported, built or trained."""


class TicketError(EdgepruneError):
    """A ticket or a run that is missing, damaged, locked or from another version."""


class PatternError(EdgepruneError):
    """A pattern that does not exist or cannot reach the density asked for."""


class TargetError(EdgepruneError):
    """A target file that is missing or wrong."""


class ExportError(EdgepruneError):
    """A model that cannot be converted, or a damaged artifact."""


@dataclass(frozen=True)
class Refusal:
    """What cannot be converted. place: the layer that it comes from, or the node; kind: of operation; reason: "" where
    no operation of that kind can."""

    place: str
    kind: str
    reason: str = ""


class RefusedError(ExportError):
    """Operations of a network that cannot be converted, all that there are, under the layers that they come from."""

    def __init__(self, what: str, refusals: Iterable[Refusal], hint: str = "") -> None:
        self.what, self.refusals = what, tuple(refusals)
        super().__init__(f"{what}: {'; '.join(self.lines)}", hint)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for all layers that are refused for the same kinds of operation."""
        needs: dict[str, dict[str, None]] = {}
        for refusal in self.refusals:
            reason = f" ({refusal.reason})" if refusal.reason else ""
            needs.setdefault(refusal.place, {})[f"{refusal.kind}{reason}"] = None
        alike: dict[tuple[str, ...], list[str]] = {}
        for place, kinds in needs.items():
            alike.setdefault(tuple(kinds), []).append(place)
        return tuple(f"{_joined(places)}: {', '.join(kinds)}" for kinds, places in alike.items())

    def moved(self, places: Mapping[str, str]) -> RefusedError:
        """The same with other names for places, where there are any."""
        return RefusedError(
            self.what,
            (replace(refusal, place=places.get(refusal.place, refusal.place)) for refusal in self.refusals),
            self.hint,
        )


class VerificationError(ExportError):
    """An artifact that was built but does not do in its runtime what the ticket does in PyTorch."""

    exit_code = ExitCode.FAILED


class MeasurementError(EdgepruneError):
    """A damaged measurement file."""


class DeviceError(EdgepruneError):
    """The device refused or failed."""

    exit_code = ExitCode.FAILED


class DeviceTransientError(DeviceError):
    """A timeout or a dropped connection: worth another try."""


class UnfairConditionsError(DeviceError):
    """The device works, but its state forbids a fair measurement; the hint says how to change it."""

    exit_code = ExitCode.UNFAIR


def _joined(places: list[str]) -> str:
    more = len(places) - PLACES_SHOWN
    return ", ".join(places[:PLACES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def nearest(got: str, known: Iterable[str]) -> str:
    """A hint that lists the known names nearest to `got`, or all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(got, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(names)
