"""An S3 server on loopback, and a relay in front of it that sees every request."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyarrow import fs

REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) (\S+) HTTP/1.1\r\n")
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def s3_server(unchecked_requests: int | None = None) -> Iterator[int]:
    """The port of moto's server, which runs in its own process.

    It takes any key; after ``unchecked_requests``, if given, it takes none.
    """
    environment = dict(os.environ)
    if unchecked_requests is not None:
        environment["INITIAL_NO_AUTH_ACTION_COUNT"] = str(unchecked_requests)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "Running on" in line:
                    break
            else:
                raise RuntimeError("".join(said))
            # Its log must not fill the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield port
        finally:
            process.kill()


def make_bucket(port: int) -> None:
    """Create the bucket ``bucket``."""
    filesystem = fs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        scheme="http",
        endpoint_override=f"127.0.0.1:{port}",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    filesystem.create_dir("bucket")


def address(port: int, path: str) -> str:
    return f"s3://key:secret@{path}?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"


class Relay:
    """Passes bytes on to ``port``. ``on_send`` sees them first, and may answer in its place.

    ``received`` counts the bytes that came back.
    """

    def __init__(self, port: int, on_send: Callable[[bytes], bytes | None]):
        self._target, self._on_send = port, on_send
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=self._receive, args=(server, client), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                answer = self._on_send(data)
                if answer:
                    client.sendall(answer)
                    break
                server.sendall(data)
        _end(server, client)

    def _receive(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                self.received += len(data)
                client.sendall(data)
        _end(client, server)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
