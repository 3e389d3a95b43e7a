"""A TCP proxy in front of a database, which drops connections when asked to.

Knows bytes, and nothing of Postgres.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread

#: Closes with a reset instead of an orderly end.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards connections; ``cut`` ends them, ``hold`` forwards nothing meanwhile."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._links: set[socket.socket] = set()
        self._lock = Lock()
        self._flows, self._accepts = Event(), Event()
        self._flows.set()
        self._accepts.set()
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections with a reset, on both sides."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            with suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """While in here, there are no connections: old ones are cut, new ones too."""
        self._accepts.clear()
        self.cut()
        yield
        self._accepts.set()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """While in here, no byte gets through, and nothing is closed; then all is."""
        self._flows.clear()
        yield
        self.cut()
        self._flows.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._accepts.is_set():
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                with self._lock:
                    self._links |= {client, server}
                for source, target in ((client, server), (server, client)):
                    Thread(
                        target=self._forward, args=(source, target), daemon=True
                    ).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(1 << 16):
                self._flows.wait()
                target.sendall(part)
        with self._lock:
            self._links -= {source, target}
        for link in (source, target):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
