"""A device that the real `adb` client reaches over TCP: the device's side of the adb protocol, running commands here.

Messages, streams and the sync service as in AOSP's packages/modules/adb: protocol.txt, SYNC.TXT, SERVICES.TXT. It has
what edgeprune uses: commands (exec:) and files to the device. No TLS.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<4s5I")  # command, arg0, arg1, length, check, magic
SYNC = struct.Struct("<4sI")  # id, length
TOKEN = 1  # AUTH's arg0


@dataclass(frozen=True)
class Phone:
    """What the server pretends to be.

    prefix: of the command line of each shell. environment: its variables. files: the folder that is / to the sync
    service. old: a device from before Android 7, with checksums, packets of 4 KiB and no features. trusts: the host's
    key; else it waits for somebody to accept the prompt.
    """

    prefix: Sequence[str] = ()
    environment: Mapping[str, str] | None = None
    files: Path = Path("/")
    old: bool = False
    trusts: bool = True

    @property
    def version(self) -> int:
        """Of the protocol; the newer one leaves checksums out."""
        return 0x01000000 if self.old else 0x01000001

    @property
    def banner(self) -> bytes:
        """What it says of itself."""
        features = "" if self.old else "features=cmd;"
        return f"device::ro.product.name=phone;ro.product.model=Phone;ro.product.device=phone;{features}".encode()

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """A shell with a command."""
        return subprocess.Popen(
            [*self.prefix, "/bin/sh", "-c", command],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd="/",
            start_new_session=True,
        )


class AdbServer:
    """Serves one phone on loopback; `adb connect SERIAL` reaches it."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self._lines: list[_Transport] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.serial = f"127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Listen, on the port that it had."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                line = _Transport(listener.accept()[0], self.phone)
                self._lines.append(line)
                threading.Thread(target=line.serve, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, as a cable that is pulled does."""
        while self._lines:
            self._lines.pop().close()

    def hang(self) -> None:
        """Answer nothing on the connections that there are."""
        for line in self._lines:
            line.hangs = True

    def stop(self) -> None:
        """No connection, and no new one."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


class _Transport:
    """One connection from a host, with its streams."""

    def __init__(self, line: socket.socket, phone: Phone) -> None:
        self.phone, self.hangs = phone, False
        self.packet_bytes = 4096 if phone.old else 256 * 1024
        self._line, self._in = line, line.makefile("rb")
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}
        self._numbers = itertools.count(1)

    def serve(self) -> None:
        """Answer messages until the connection ends."""
        with contextlib.suppress(OSError, struct.error):
            while True:
                command, first, second, length, _, _ = HEADER.unpack(self._in.read(HEADER.size))
                data = self._in.read(length)
                if not self.hangs:
                    self._answer(command, first, second, data)
        for stream in list(self._streams.values()):
            stream.ended()

    def _answer(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command == b"CNXN":
            self.packet_bytes = min(self.packet_bytes, second)
            if self.phone.trusts:
                self.send(b"CNXN", self.phone.version, self.packet_bytes, self.phone.banner)
            else:
                self.send(b"AUTH", TOKEN, 0, os.urandom(20))
        elif command == b"AUTH" and first == 2:  # a signature; the answer to the public key is up to the phone's owner
            self.send(b"AUTH", TOKEN, 0, os.urandom(20))
        elif command == b"OPEN":
            stream = _Stream(self, next(self._numbers), first)
            self._streams[stream.local] = stream
            threading.Thread(target=stream.serve, args=(data.rstrip(b"\0").decode(),), daemon=True).start()
        elif second in self._streams:
            self._streams[second].take(command, data)

    def forget(self, stream: _Stream) -> None:
        """A stream has ended."""
        self._streams.pop(stream.local, None)

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        """One message."""
        check = sum(data) & 0xFFFFFFFF if self.phone.old else 0
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        with self._sending:
            self._line.sendall(HEADER.pack(command, first, second, len(data), check, magic) + data)

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)


class _Stream:
    """One service that a host has opened. Each packet waits for the OKAY to the one before."""

    def __init__(self, transport: _Transport, local: int, remote: int) -> None:
        self.local, self._remote, self._transport = local, remote, transport
        self._packets: queue.Queue[bytes] = queue.Queue()
        self._okays = threading.Semaphore(0)
        self._open, self._rest = True, b""

    def serve(self, service: str) -> None:
        """Run a service to its end."""
        kind, _, argument = service.partition(":")
        with contextlib.suppress(OSError):
            if kind in ("exec", "sync"):
                self._say(b"OKAY")
            if kind == "exec":
                self._execute(argument)
            elif kind == "sync":
                _Sync(self, self._transport.phone.files).serve()
        self._transport.forget(self)
        with contextlib.suppress(OSError):
            self._say(b"CLSE")

    def take(self, command: bytes, data: bytes) -> None:
        """A message of the host."""
        if command == b"WRTE":
            self._packets.put(data)
        elif command == b"OKAY":
            self._okays.release()
        elif command == b"CLSE":
            self.ended()

    def ended(self) -> None:
        """Nobody is at the other end any more."""
        self._open = False
        self._packets.put(b"")
        self._okays.release()

    def packet(self) -> bytes:
        """The next bytes from the host; none at the end."""
        data = self._packets.get()
        if data and self._open:
            self._say(b"OKAY")
        return data

    def exactly(self, size: int) -> bytes:
        """So many bytes from the host; OSError where it ends before."""
        while len(self._rest) < size:
            data = self.packet()
            if not data:
                raise ConnectionResetError
            self._rest += data
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def write(self, data: bytes) -> None:
        """Bytes to the host; OSError where nobody takes them."""
        for start in range(0, len(data), self._transport.packet_bytes):
            self._transport.send(b"WRTE", self.local, self._remote, data[start : start + self._transport.packet_bytes])
            self._okays.acquire()
            if not self._open:
                raise ConnectionResetError

    def _say(self, command: bytes) -> None:
        self._transport.send(command, self.local, self._remote)

    def _execute(self, command: str) -> None:
        """Input and output as they are, errors among the output, no exit status."""
        process = self._transport.phone.start(command)
        threading.Thread(target=self._feed, args=(process,), daemon=True).start()
        assert process.stdout
        while data := process.stdout.read(32 * 1024):
            self.write(data)
        process.wait()

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            assert process.stdin
            while data := self.packet():
                process.stdin.write(data)
            process.stdin.close()


class _Sync:
    """The sync service [SYNC.TXT]."""

    def __init__(self, stream: _Stream, files: Path) -> None:
        self._stream, self._files = stream, files

    def serve(self) -> None:
        """Answer requests until the host has no more."""
        while True:
            command, length = SYNC.unpack(self._stream.exactly(SYNC.size))
            argument = self._stream.exactly(length).decode()
            if command == b"STAT":
                self._stat(self._place(argument))
            elif command == b"SEND":
                path, _, mode = argument.rpartition(",")
                self._send(self._place(path), int(mode) & 0o777)
            else:
                return

    def _place(self, path: str) -> Path:
        return self._files / path.lstrip("/")

    def _stat(self, path: Path) -> None:
        fields = (0, 0, 0)
        with contextlib.suppress(OSError):
            found = path.lstat()
            fields = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
        self._stream.write(struct.pack("<4s3I", b"STAT", *fields))

    def _chunks(self) -> Iterator[bytes]:
        while True:
            command, length = SYNC.unpack(self._stream.exactly(SYNC.size))
            if command != b"DATA":
                return
            yield self._stream.exactly(length)

    def _send(self, path: Path, mode: int) -> None:
        """What the host sends, to a file, which is gone again where the line breaks [file_sync_service.cpp]."""
        chunks = self._chunks()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with path.open("xb", buffering=0) as file:
                for data in chunks:
                    file.write(data)
            path.chmod(mode)
            os.chown(path, path.parent.stat().st_uid, -1)  # Android's adbd is no root
        except OSError as problem:
            path.unlink(missing_ok=True)
            for _ in chunks:
                pass
            reason = f"couldn't create file: {problem.strerror}".encode()
            self._stream.write(SYNC.pack(b"FAIL", len(reason)) + reason)
        else:
            self._stream.write(SYNC.pack(b"OKAY", 0))
