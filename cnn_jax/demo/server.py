"""Serves the page to this machine, and prepares the pictures that it sends."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cnn_jax.errors import translate_errors

_ADDRESS = "127.0.0.1"  # No other machine can reach it.
_MAX_BYTES = 50_000_000  # Of a picture; a photo of a phone has up to 20 MB.
_TIMEOUT_SECONDS = 30.0  # Within which a client must send the next part of its request.

Prepare = Callable[[bytes], Mapping[str, Any]]


class Server(ThreadingHTTPServer):
    """Server of one page, and of the preparation of pictures.

    It answers only requests that name it as their host, and pictures only from its own page, so
    that no other web site can use it through the browser.

    Attributes:
      page: HTML in UTF-8.
      hosts: values of the header `Host` that name this server.
    """

    def __init__(self, page: bytes, prepare: Prepare, port: int) -> None:
        """Binds the server to a port.

        Args:
          page: HTML in UTF-8.
          prepare: turns the bytes of a picture file into what can be written as JSON. Only one
            thread at a time calls it.
          port: port, or 0 for any that is free.

        Raises:
          UserError: when the port cannot be used.
        """
        advice = "--port must be a free port that you may use. Choose another one, or omit it."
        with translate_errors(f"cannot listen on {_ADDRESS}:{port}", advice):
            super().__init__((_ADDRESS, port), _Handler)
        self.page = page
        self.hosts = [f"{name}:{self.server_port}" for name in (_ADDRESS, "localhost")]
        self._prepare = prepare
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{self.hosts[0]}/"

    def prepare(self, picture: bytes) -> Mapping[str, Any]:
        """Prepares a picture, after those that came before it."""
        with self._lock:
            return self._prepare(picture)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Hides the error of a client that has gone away; any other is printed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _TIMEOUT_SECONDS

    def do_GET(self) -> None:
        if not self._names_this_server():
            self._refuse(403, "the host must be 127.0.0.1 or localhost, with this port")
        elif self.path != "/":
            self._refuse(404, "the path must be /")
        else:
            self._send(200, "text/html; charset=utf-8", self.server.page)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not self._names_this_server() or self.headers["Origin"] != f"http://{self._host}":
            self._refuse(403, "the request must come from this server's page")
        elif self.path != "/prepare":
            self._refuse(404, "the path must be /prepare")
        elif not (length.isascii() and length.isdecimal()):
            self._refuse(411, "the header Content-Length must say how many bytes follow")
        elif int(length) > _MAX_BYTES:
            self._refuse(413, f"a picture must have at most {_MAX_BYTES:,} bytes")
        else:
            prepared = self.server.prepare(self.rfile.read(int(length)))
            self._send(200, "application/json", json.dumps(prepared, allow_nan=False).encode())

    @property
    def _host(self) -> str:
        return self.headers["Host"] or ""

    def _names_this_server(self) -> bool:
        """Returns whether the request is meant for this server.

        A web site whose name leads to 127.0.0.1 has another one (DNS rebinding).
        """
        return self._host in self.server.hosts

    def _refuse(self, status: int, requirement: str) -> None:
        self.close_connection = True  # Its body is not read.
        self._send(status, "text/plain; charset=utf-8", f"{requirement}\n".encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing about a request."""
        del format, args
