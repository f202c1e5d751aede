from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# One thread a test process: tests run side by side, and results depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No time limits, since a loaded machine must not turn a test red; the same examples in every run.
settings.register_profile(
    "edgeprune", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeprune")
