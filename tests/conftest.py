"""What holds for every test: no network, a cache of its own, one thread a worker, the same seed."""

import gc
import ipaddress
import os
import random
import shutil
import socket
import sys
import tempfile
from typing import Any

import pytest

# read when torch, datasets and huggingface_hub are first imported, which is after this file
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
CACHE_FOLDER = tempfile.mkdtemp(prefix="updown-tests-")
os.environ.update(
    HF_HOME=CACHE_FOLDER,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
)
os.environ.pop("HF_TOKEN", None)

REAL_CONNECT = socket.socket.connect
REAL_GETADDRINFO = socket.getaddrinfo


class NetworkBlockedError(OSError):
    """A test reached for the network; `OSError`, as without a cable."""


def is_loopback(host: Any) -> bool:
    """Whether a host name or address never leaves this machine."""
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guarded_connect(self: socket.socket, address: Any) -> None:
    """`socket.connect` for loopback and Unix sockets only."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
        raise NetworkBlockedError(f"tests run without a network, yet one connects to {address[0]}")
    REAL_CONNECT(self, address)


def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    """`socket.getaddrinfo` without asking a name server."""
    if not is_loopback(host):
        raise NetworkBlockedError(f"tests run without a network, yet one looks up {host}")
    return REAL_GETADDRINFO(host, *args, **kwargs)


def pytest_configure() -> None:
    """Cut the network before any test module is imported; what is imported is no garbage to look for."""
    gc.disable()
    socket.socket.connect = guarded_connect  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = guarded_getaddrinfo


def pytest_collection_finish() -> None:
    """Collect garbage from here on, of the tests alone: half a million objects of imported libraries stay."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Put the network back and drop the cache."""
    socket.socket.connect = REAL_CONNECT  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = REAL_GETADDRINFO
    shutil.rmtree(CACHE_FOLDER, ignore_errors=True)


@pytest.fixture(autouse=True)
def same_seed() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
