"""Several devices at once: each in a thread of its own, one stream of events."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Union

from edgeprune.bench import BlockDone, Request, bench_blocks
from edgeprune.connections import Connection
from edgeprune.errors import DeviceError, EdgepruneError
from edgeprune.measurement import Measurement

Outcome = Union[Measurement, EdgepruneError, OSError]


@dataclass(frozen=True)
class DeviceEvent:
    """Something happened on a device: a block is done, it is measured, or it failed (OSError: this machine did, such as
    its disk)."""

    host: str
    event: Union[BlockDone, Outcome]


class _Fleet:
    """What the threads share."""

    def __init__(self) -> None:
        self.events: queue.Queue[DeviceEvent] = queue.Queue()
        self.connected: list[Connection] = []
        self.stopped = threading.Event()

    def bench(self, request: Request, host: str, connect: Callable[[], Connection]) -> None:
        """One device, up to its last event: its measurement, or whatever went wrong, so that nobody waits for ever."""
        try:
            last: Outcome = self._measurement(request, host, connect)
        except (EdgepruneError, OSError) as problem:
            last = problem
        except BaseException as problem:  # noqa: BLE001  a thread that raised would say so to nobody
            last = DeviceError(
                f"the measurement broke off: {type(problem).__name__}: {problem}",
                "this is a fault of edgeprune: run it again as edgeprune --debug bench, and report what it shows",
            )
            last.__cause__ = problem
        self.events.put(DeviceEvent(host, last))

    def _measurement(self, request: Request, host: str, connect: Callable[[], Connection]) -> Measurement:
        """Connect and measure; every block is an event. The connection is closed before the measurement is told of."""
        with connect() as connection:
            self.connected.append(connection)
            for event in () if self.stopped.is_set() else bench_blocks(request, connection, self._sleep):
                if isinstance(event, Measurement):
                    return event
                self.events.put(DeviceEvent(host, event))
        raise DeviceError("the measurement was stopped")

    def _sleep(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise DeviceError("the measurement was stopped")

    def stop(self) -> None:
        """What still runs loses its connection, and its block fails at once."""
        self.stopped.set()
        for connection in list(self.connected):
            connection.close()


def bench_devices(
    request: Request, hosts: Mapping[str, Callable[[], Connection]]
) -> Generator[DeviceEvent, None, None]:
    """`bench_blocks` on every host at the same time; hosts: name -> what connects to it.

    A device that fails ends with its error as its last event, the others go on. Closing the generator ends what runs on
    all devices and closes their connections before it returns.
    """
    fleet = _Fleet()
    threads = [
        threading.Thread(target=fleet.bench, args=(request, host, connect), name=host, daemon=True)
        for host, connect in hosts.items()
    ]
    for thread in threads:
        thread.start()
    left = len(threads)
    try:
        while left:
            found = fleet.events.get()
            left -= not isinstance(found.event, BlockDone)
            yield found
    finally:
        if left:
            fleet.stop()
        for thread in threads:
            thread.join()
