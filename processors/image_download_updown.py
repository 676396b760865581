"""Downloads an image from an http(s) URL, with limits on time, size and redirects.

Used by `load_image` for URLs. Servers are not trusted: one may send garbage, never end, or redirect to another scheme
or into the local network. Each of these raises one error that names the URL.
"""

import contextlib
import http.client
import ipaddress
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

MAX_DOWNLOAD_BYTES = 2**28
DOWNLOAD_SECONDS = 30.0  # for the whole download, including redirects
CHUNK_BYTES = 2**16
SCHEMES = ("http", "https")


def download_image(url: str, *, timeout: float | None = None) -> bytes:
    """Downloads the content of an http(s) URL.

    Args:
        url: it may be in the local network, but other servers may not redirect there.
        timeout: seconds for the whole download, including redirects; by default `DOWNLOAD_SECONDS`.

    Raises:
        ConnectionError: if the server does not answer, answers with something else than HTTP, takes longer than
            `timeout`, or redirects to another scheme or into the local network.
        ValueError: for more than `MAX_DOWNLOAD_BYTES`, or a `timeout` that is not above 0.
    """
    seconds = DOWNLOAD_SECONDS if timeout is None else float(timeout)
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout is {timeout}, but must be seconds above 0")
    download = Download(url, seconds=seconds)
    download.start()
    download.join(seconds)
    if download.is_alive():
        raise ConnectionError(
            f"{url} cannot be downloaded (not done after {seconds:g} seconds); check the address or save the image"
        )
    if isinstance(download.error, TooLargeError):
        raise ValueError(f"{url} is larger than {MAX_DOWNLOAD_BYTES >> 20} MiB; save a smaller copy of it")
    if download.error is not None:
        reason = str(download.error) or type(download.error).__name__
        raise ConnectionError(
            f"{url} cannot be downloaded ({reason[:200]}); check the address or save the image"
        ) from download.error
    return download.content


class TooLargeError(Exception):
    """Raised for a download of more than `MAX_DOWNLOAD_BYTES`."""


class Download(threading.Thread):
    """One download in a separate thread, which is abandoned after the timeout.

    A socket's timeout restarts with every byte, so a server that sends single bytes could block its reader for days; a
    waiting thread can give up.
    """

    def __init__(self, url: str, *, seconds: float):
        super().__init__(daemon=True, name="image-download")
        self.url, self.seconds = url, seconds
        self.deadline = time.monotonic() + seconds
        self.content = b""
        self.error: Exception | None = None

    def run(self) -> None:
        """Download; an error is stored for the waiting thread."""
        try:
            self.content = self.fetch()
        except Exception as error:  # servers cause errors of every kind; http.client's are not OSError
            self.error = error

    def fetch(self) -> bytes:
        """The whole content, read in pieces, so that the thread ends soon after the deadline."""
        request = urllib.request.Request(self.url, headers={"User-Agent": "updown"})
        opener = opener_for(self.url)
        with contextlib.closing(opener.open(request, timeout=self.seconds)) as response:
            pieces, size = [], 0
            while piece := response.read1(CHUNK_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_DOWNLOAD_BYTES:
                    raise TooLargeError
                if time.monotonic() > self.deadline:
                    raise TimeoutError(f"not done after {self.seconds:g} seconds")
            missing = response.length or 0  # bytes that the server announced and did not send
        if missing:
            raise http.client.IncompleteRead(b"", missing)
        return b"".join(pieces)


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """An opener of http(s) URLs only: no files and no FTP, also by redirects."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        GuardedRedirects(inside=is_inside(url)),
    ):
        opener.add_handler(handler)
    return opener


class GuardedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and into the local network only if the first URL was there (`inside`)."""

    def __init__(self, *, inside: bool):
        self.inside = inside

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request of an allowed redirect; raises `URLError` for others."""
        if urlsplit(newurl).scheme.lower() not in SCHEMES:
            raise urllib.error.URLError(f"it redirects to {newurl[:80]}, which is not http or https")
        if not self.inside and is_inside(newurl):
            raise urllib.error.URLError(f"it redirects to {newurl[:80]}, which is an address of this network")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_inside(url: str) -> bool:
    """Whether any address of a URL's host is of this machine or a private network rather than of the Internet.

    >>> [is_inside(url) for url in ("http://127.0.0.1:8000/a.jpg", "http://[fe80::1]/", "https://93.184.215.14/a.jpg")]
    [True, True, False]
    """
    return any(not address.is_global for address in host_addresses(urlsplit(url).hostname or ""))


def host_addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of a host; [] if it has none, in which case the connection fails later."""
    try:
        addresses = [ipaddress.ip_address(host)]
    except ValueError:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        addresses = [ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    mapped = [getattr(address, "ipv4_mapped", None) for address in addresses]  # ::ffff:127.0.0.1 is 127.0.0.1
    return [inner or address for inner, address in zip(mapped, addresses, strict=True)]
