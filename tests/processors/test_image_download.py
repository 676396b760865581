"""Images from a small server on this machine: what arrives, and the many ways in which a server may not deliver."""

import contextlib
import io
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from processors import image_download_updown
from processors.image_download_updown import download_image, is_inside
from processors.image_processing_updown import load_image

Connection = socket.socket


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), (255, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


IMAGE = png()


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An HTTP answer, whose announced length may be another than the body's."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@contextlib.contextmanager
def server(answers: dict[str, bytes | Callable[[Connection], None]]) -> Iterator[str]:
    """A server that answers each path with these very bytes, or lets a function do so; its address comes back."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening, answers), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def serve(listening: Connection, answers: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=reply, args=(connection, answers), daemon=True).start()


def reply(connection: Connection, answers: dict[str, Any]) -> None:
    with connection, contextlib.suppress(OSError):
        path = connection.recv(4096).split()[1].decode()
        found = answers[path]
        if callable(found):
            found(connection)
        else:
            connection.sendall(found)


def drip_header(connection: Connection) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(connection)


def drip_body(connection: Connection) -> None:
    connection.sendall(answer("200 OK", length=2**20))
    drip(connection)


def drip(connection: Connection) -> None:
    for _ in range(200):
        connection.sendall(b"a")
        time.sleep(0.05)


def test_an_image_arrives() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(IMAGE), IMAGE)
    answers: dict[str, Any] = {
        "/a.png": answer("200 OK", IMAGE),
        "/chunked": chunked,
        "/till-the-end": b"HTTP/1.0 200 OK\r\n\r\n" + IMAGE,
        "/moved": answer("302 Found", b"", "Location: /a.png"),
    }
    with server(answers) as address:
        for path in answers:
            assert download_image(address + path) == IMAGE
        assert load_image(f"{address}/a.png").size == (6, 4)
        assert load_image(address.replace("http", "HTTP") + "/a.png", timeout=5).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"\x16\x03garbage\r\n\r\n", "cannot be downloaded .*garbage"),
        (b"", "cannot be downloaded .*closed connection"),
        (answer("404 Not Found"), "cannot be downloaded .*404"),
        (answer("200 OK", IMAGE[:30], length=len(IMAGE)), r"cannot be downloaded \(IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500, "cannot be downloaded .*more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "cannot be downloaded"),
        (answer("302 Found", b"", "Location: file:///etc/passwd"), "cannot be downloaded"),
        (answer("302 Found", b"", "Location: ftp://127.0.0.1/a.png"), "which is not http or https"),
        (answer("302 Found", b"", "Location: /it"), "cannot be downloaded .*loop"),
        (answer("200 OK", b"no image"), "is not an image"),
    ],
)
def test_a_server_that_does_not_deliver(reply: bytes, message: str) -> None:
    with server({"/it": reply}) as address:
        with pytest.raises((ConnectionError, ValueError), match=message) as caught:
            load_image(f"{address}/it")
        assert f"{address}/it" in str(caught.value)


@pytest.mark.parametrize("slow", [drip_header, drip_body])
def test_the_time_limit_is_for_the_whole_fetch(slow: Callable[[Connection], None]) -> None:
    """A byte every now and then would never meet the time limit of a single read."""
    with server({"/slow": slow}) as address:
        start = time.monotonic()
        with pytest.raises(ConnectionError, match=r"not done after 0\.3 seconds"):
            download_image(f"{address}/slow", timeout=0.3)
        assert time.monotonic() - start < 2
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout is .*, but must be seconds above 0"):
            download_image("http://127.0.0.1:9/", timeout=timeout)


def test_the_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_download_updown, "MAX_DOWNLOAD_BYTES", 2**20)
    endless = b"HTTP/1.0 200 OK\r\n\r\n" + bytes(2**20 + 1)
    with server({"/large": endless}) as address, pytest.raises(ValueError, match="/large is larger than 1 MiB"):
        download_image(f"{address}/large")


def test_no_stranger_leads_into_this_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is a stranger under one of its names, and a machine of this network under the other."""
    monkeypatch.setattr(image_download_updown, "host_addresses", addresses_of_a_stranger)
    answers: dict[str, Any] = {"/secret": answer("200 OK", IMAGE)}
    with server(answers) as address:
        port = address.rpartition(":")[2]
        answers["/moved"] = answer("302 Found", b"", f"Location: http://127.0.0.1:{port}/secret")
        stranger = f"http://localhost:{port}/moved"
        assert [is_inside(url) for url in (address, stranger)] == [True, False]
        assert download_image(f"{address}/moved") == IMAGE  # the user's own address is of this network
        with pytest.raises(ConnectionError, match="redirects to .*/secret, which is an address of this network"):
            download_image(stranger)


def addresses_of_a_stranger(host: str) -> list[Any]:
    return [ipaddress.ip_address("93.184.215.14" if host == "localhost" else host)]


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "[::1]", "[fd00::1]"])
def test_inner_addresses(host: str) -> None:
    assert is_inside(f"http://{host}/") and is_inside("http://localhost/") and is_inside("http://[::ffff:127.0.0.1]/")
    assert not is_inside("http://93.184.215.14/") and not is_inside("http://[2606:4700::1111]/")
