"""Asking the address of a Ray cluster whether one answers, since Ray itself waits for minutes."""

import os
import re
import socket
import time

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask

PROBE_SECONDS = 5.0  # a head that is starting may refuse connections for a moment
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # type of the frame that every HTTP/2 server sends first (RFC 9113, 3.4)
_REMEDY = "start a cluster there, correct {origin}, or {without} to start one on this machine"


def require_cluster(address: str, origin: str) -> None:
    """Raise ``UserError`` where nothing at ``address`` speaks gRPC as a Ray cluster does.

    ``origin`` is where the address was written: ``compute.address`` or ``RAY_ADDRESS``. Addresses
    that Ray resolves itself (``local``, other schemes, ``auto`` without a cluster) are left to it.
    """
    if address == "auto":
        address = _found_by_ray()
    without = "unset it" if origin == "RAY_ADDRESS" else "set it to null"
    remedy = _REMEDY.format(origin=origin, without=without)
    if re.match(r"https?://", address):
        raise UserError(
            f"{origin}: {mask(address)} is the address of a dashboard, to which jobs are submitted;"
            " a cluster is joined at HOST:6379, or at ray://HOST:10001"
        )
    if "://" in address and not address.startswith("ray://"):
        return
    if address in ("", "auto", "local"):
        return
    place = address.removeprefix("ray://").partition("/")[0].partition("?")[0]
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"{origin}: {mask(address)!r} is no address of a Ray cluster; write HOST:PORT, such as "
            f"127.0.0.1:6379, `auto`, or ray://HOST:10001"
        )
    if fault := _fault(host.strip("[]"), int(port)):
        raise UserError(f"{origin}: no Ray cluster answers at {mask(address)}: {fault}; {remedy}")


def _found_by_ray() -> str:
    """What ``auto`` stands for, also after its head was killed; empty if Ray finds none."""
    try:
        from ray._private.services import get_ray_address_from_environment  # no public way to ask

        return get_ray_address_from_environment("auto", None) or ""
    except (ImportError, TypeError, ConnectionError, OSError):
        return ""


def _fault(host: str, port: int) -> str | None:
    """Why nothing there can be a Ray cluster; None where a gRPC server answers."""
    end = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
                return None if os.environ.get("RAY_USE_TLS") == "1" else _protocol_fault(connection)
        except ConnectionRefusedError as error:
            if time.monotonic() >= end:
                return os.strerror(error.errno or 0).lower()
            time.sleep(0.5)
        except TimeoutError:
            return f"no answer in {PROBE_SECONDS:g} s"
        except UnicodeError:
            return "the host has no valid name"
        except OSError as error:
            return (error.strerror or str(error)).lower()


def _protocol_fault(connection: socket.socket) -> str | None:
    other = "what answers there is no Ray cluster"
    connection.sendall(_PREFACE)
    head = b""
    while len(head) < 4:
        try:
            more = connection.recv(4 - len(head))
        except ConnectionResetError:
            return other
        if not more:
            return other
        head += more
    return None if head[3] == _SETTINGS else other
