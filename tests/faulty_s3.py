"""An S3 server's faults, on real sockets."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Executor = str | re.Pattern[str]


def _meets(request: str, where: Executor) -> bool:
    return where in request if isinstance(where, str) else where.search(request) is not None


class FaultyS3(ThreadingHTTPServer):
    """Stands in front of an S3 server and spoils the requests it is told to.

    Requests to create an object that must not be there pass one by one: servers for tests look first and write then.
    """

    daemon_threads = True

    def __init__(self, behind: str, host: str = "127.0.0.1"):
        super().__init__((host, 0), _Handler)
        self.behind = behind.removeprefix("http://")
        self.address = f"http://{host}:{self.server_address[1]}"
        self.requests: list[str] = []
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.signed_by: set[tuple[str, str]] = set()  # access key and region
        self.delay = 0.0  # seconds before each answer
        self.conditional = "kept"  # what becomes of If-None-Match; "refusing": 501, "ignoring": it is written
        self._fault, self._left = "", 0
        self._where: Executor = ""
        self._outage: tuple[Executor, float] = ("", 0.0)
        self._until = 0.0
        self._turn = threading.Lock()
        self.creating = threading.Lock()

    def fail(self, fault: str, times: int = 1_000_000, where: Executor = "") -> None:
        """Spoil the next ``times`` requests whose method and path hold ``where``, and count requests from here.

        ``fault`` is a status to answer with, and S3's own code after it; or "reset", without an answer; or "cut",
        after half of one; or "stall", which stops there until ``go_on``; or "silence", no answer until then.
        """
        self.requests.clear()
        self._fault, self._left, self._where = fault, times, where

    def vanish(self, where: Executor, seconds: float) -> None:
        """Be gone for so long from the first request on whose method and path hold ``where``."""
        self.requests.clear()
        self._outage = (where, seconds)

    @property
    def vanished(self) -> bool:
        """Whether that has begun."""
        return self._until > 0

    def heal(self) -> None:
        self.fail("", times=0)
        self._outage, self._until = ("", 0.0), 0.0
        self.delay = 0.0
        self.stalled.clear()
        self.go_on.clear()

    def fault_of(self, request: str) -> str:
        with self._turn:
            self.requests.append(request)
            where, seconds = self._outage
            if seconds and _meets(request, where):
                self._outage, self._until = ("", 0.0), time.monotonic() + seconds
            if time.monotonic() < self._until:
                return "reset"
            if self._left and _meets(request, self._where):
                self._left -= 1
                return self._fault
        return ""

    def gets(self, key: str) -> int:
        """How often the content of a file was asked for."""
        return sum(request.startswith("GET ") and request.endswith(key) for request in self.requests)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed leave broken connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if found := re.search(r"Credential=([^/]+)/\d+/([^/]+)/s3/", self.headers.get("Authorization", "")):
            self.server.signed_by.add((found[1], found[2]))
        fault = self.server.fault_of(f"{self.command} {self.path}")
        time.sleep(self.server.delay)
        if fault == "silence":
            self.server.stalled.set()
            self.server.go_on.wait()
        if fault in ("reset", "silence"):
            self._reset()
        elif self.server.conditional == "refusing" and self.headers.get("If-None-Match"):
            words = b"<Error><Code>NotImplemented</Code><Message>NotImplemented</Message></Error>"
            self._answer(501, [("Content-Type", "application/xml")], words, len(words))
        elif fault[:1].isdigit():
            status, _, code = fault.partition(" ")
            words = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode() if code else b""
            self._answer(int(status), [("Content-Type", "application/xml")], words, len(words))
        else:
            self._forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names of http.server

    def _forward(self, body: bytes, fault: str) -> None:
        connection = http.client.HTTPConnection(self.server.behind)
        with self.server.creating if self.headers.get("If-None-Match") else nullcontext():
            sent = dict(self.headers)
            if self.server.conditional == "ignoring":
                sent.pop("If-None-Match", None)
            connection.request(self.command, self.path, body, sent)
            answer = connection.getresponse()
            data = answer.read()
        connection.close()
        dropped = {"transfer-encoding", "connection", "content-length", "date", "server"}
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
        size = int(answer.getheader("Content-Length") or len(data))
        self._answer(answer.status, headers, data[: len(data) // 2] if fault else data, size)
        if fault == "stall":
            self.server.stalled.set()
            self.server.go_on.wait(30)
        if fault:
            self._reset()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, size: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _reset(self) -> None:
        """Close at once, so that the other side reads "connection reset by peer"."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()


@contextmanager
def faulty_s3(behind: str, host: str = "127.0.0.1") -> Iterator[FaultyS3]:
    server = FaultyS3(behind, host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
