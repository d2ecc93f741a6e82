"""Servers on this machine that accept every connection and are no help: one says nothing, one says the same to all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def answering(words: bytes = b"") -> Iterator[int]:
    """The port of a server that takes whatever it is sent, answers each connection with ``words`` and no more, and
    leaves it open."""
    listener = socket.create_server(("", 0), backlog=64)  # Ray puts a name of its own for 127.0.0.1
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it was closed
                return
            kept.append(connection)
            connection.sendall(words)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in kept:
            connection.close()
