"""What is there of what edgeprune needs: on this machine (`checks`), and on a device (`device_checks`)."""

from __future__ import annotations

from edgeprune.doctor.device import device_checks
from edgeprune.doctor.host import checks
from edgeprune.doctor.state import Check

__all__ = ["Check", "checks", "device_checks"]
