"""`python -m edgeprune` is the command `edgeprune`."""

from __future__ import annotations

from edgeprune.cli import main

main()
