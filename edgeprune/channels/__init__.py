"""Which channels of a network belong together, which reach its outputs, and which have to stay.

The network runs once on an example while each of PyTorch's basic operations is watched. Every tensor carries, element
by element, the channel that it belongs to: a convolution or linear layer makes new ones, operations that only move
values (view, permute, cat, slices, shuffles) move the numbers in the same way, arithmetic unites what meets.
Channels are the indices of the axes of parameters, so that what is united is what has to leave together (the idea of
Fang et al. 2023, DepGraph, on values in place of modules).
"""

from __future__ import annotations

from edgeprune.channels.trace import layer_by_layer, trace
from edgeprune.channels.watch import Channels

__all__ = ["Channels", "layer_by_layer", "trace"]
