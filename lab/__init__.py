"""The kernel laboratory: what was measured before export could choose kernels, and what checks that choice and `bench`.

It uses edgeprune and is no part of it: nothing in edgeprune imports it, and no wheel holds it.
"""
