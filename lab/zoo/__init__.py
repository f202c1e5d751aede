"""The zoo: networks of every kind with random weights, each exported to both runtimes in fp32 and int8 and held against
PyTorch.

    entry      a network and its example inputs, and how they are drawn
    networks/  the networks, one file a family
    outcome    what came of a network, on disk
    trial      one network, in a process of its own
    table      the outcomes as a result file
    command    `lab zoo`
"""

from __future__ import annotations

from lab.zoo.command import zoo

__all__ = ["zoo"]
