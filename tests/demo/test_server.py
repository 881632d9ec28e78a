"""The server of `--serve`: what it answers, and what it refuses."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cnn_jax.demo import server as module
from cnn_jax.demo.server import Server
from cnn_jax.errors import UserError


def count_bytes(picture: bytes) -> Mapping[str, Any]:
    """Stands for the preparation of a picture."""
    return {"bytes": len(picture)}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(b"<p>page</p>", count_bytes, 0) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def request(
    server: Server, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """Sends a request with the headers as they are, and returns the response and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_the_page_is_served_at_its_address_alone(server: Server) -> None:
    port = server.server_port
    assert server.url == f"http://127.0.0.1:{port}/"
    for host in ("127.0.0.1", "localhost"):
        response, body = request(server, "GET", "/", {"Host": f"{host}:{port}"})
        assert (response.status, body) == (200, b"<p>page</p>")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    response, _ = request(server, "GET", "/etc/passwd", {"Host": f"127.0.0.1:{port}"})
    assert response.status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_host_is_refused(server: Server, host: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/prepare")):
        headers = {"Host": host, "Origin": f"http://{host}", "Content-Length": "0"}
        assert request(server, method, path, headers)[0].status == 403


def test_a_picture_of_the_page_is_prepared(server: Server) -> None:
    host = f"localhost:{server.server_port}"
    headers = {"Host": host, "Origin": f"http://{host}", "Content-Length": "3"}
    response, body = request(server, "POST", "/prepare", headers, b"abc")
    assert (response.status, json.loads(body)) == (200, {"bytes": 3})


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Content-Length": None}, 411),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "x"}, 411),
        ({"Content-Length": "11"}, 413),
        ({"Content-Length": "10"}, 200),
    ],
)
def test_a_request_that_is_not_the_page_s_is_refused(
    server: Server, changes: dict[str, str | None], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    host = f"127.0.0.1:{server.server_port}"
    headers = {"Host": host, "Origin": f"http://{host}", "Content-Length": "10"} | changes
    given = {name: value for name, value in headers.items() if value is not None}
    assert request(server, "POST", "/prepare", given, b"0123456789")[0].status == status


def test_only_the_preparation_takes_pictures(server: Server) -> None:
    host = f"127.0.0.1:{server.server_port}"
    headers = {"Host": host, "Origin": f"http://{host}", "Content-Length": "0"}
    assert request(server, "POST", "/", headers)[0].status == 404


def test_a_client_that_goes_away_is_no_error(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.sendall(b"GET / HT")
        # Closing with a zero linger resets the connection.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    request(server, "GET", "/", {"Host": f"127.0.0.1:{server.server_port}"})
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_an_error_of_the_user(server: Server) -> None:
    port = server.server_port
    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address already"):
        Server(b"", count_bytes, port)
