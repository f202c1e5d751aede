"""What both halves of the doctor say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing looked at. state: "ok", "missing" (something will fail), "unfair" (it forbids a fair measurement now)
    or "note" (worth knowing)."""

    name: str
    state: str
    detail: str
    next_step: str = ""
