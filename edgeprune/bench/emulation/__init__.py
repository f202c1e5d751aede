"""Cost figures for arm64 without the hardware: instruction counts on an emulated processor."""

from __future__ import annotations

from edgeprune.bench.emulation.counter import count_instructions
from edgeprune.bench.emulation.machine import PROCESSORS
from edgeprune.bench.emulation.run import emulate

__all__ = ["PROCESSORS", "count_instructions", "emulate"]
