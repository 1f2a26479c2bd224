"""Addresses where no Ray cluster answers: one sentence at once, where Ray waits for minutes."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from ltdd_ray.cluster import probe
from ltdd_ray.cluster.probe import require_cluster
from ltdd_ray.cluster.session import LONGEST_TMPDIR, ray_session
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import ComputeConfig

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.3)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was asked"))


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """A listener that sends ``answer`` and closes; with None it stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def serve() -> None:
            connection, _ = listener.accept()
            held.append(connection)
            if answer is not None:
                connection.recv(100)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("origin", ["RAY_ADDRESS", "compute.address"])
@pytest.mark.parametrize("form", ["{}", "ray://{}", "ray://{}/?a=b"])
def test_a_dead_address_is_one_sentence_that_names_its_origin(monkeypatch, origin, form):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"  # free again after the block
    address = form.format(address)
    if origin == "RAY_ADDRESS":
        monkeypatch.setenv(origin, address)
    compute = ComputeConfig(address=address if origin == "compute.address" else None)
    began = time.monotonic()
    with (
        pytest.raises(UserError, match=f"^{origin}: no Ray cluster answers at .*refused; start"),
        ray_session(compute),
    ):
        pytest.fail("entered")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "no answer in"),
        (b"", "what answers there is no Ray cluster"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is no Ray cluster"),
    ],
)
def test_something_else_that_listens_there_is_no_cluster(answer, words):
    with server(answer) as address, pytest.raises(UserError, match=words):
        require_cluster(address, "compute.address")


def test_a_grpc_server_is_left_to_ray():
    with server(SETTINGS) as address:
        require_cluster(address, "compute.address")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nonsense", "HOST:PORT"),
        ("127.0.0.1", "HOST:PORT"),
        ("127.0.0.1:99999", "HOST:PORT"),
        (":6379", "HOST:PORT"),
        ("127.0.0.1:six", "HOST:PORT"),
        ("http://127.0.0.1:8265", "address of a dashboard"),
        ("no-such-host.invalid:6379", "no Ray cluster answers"),
        (f"{'a' * 70}.invalid:6379", "no Ray cluster answers|HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused(address, words):
    with pytest.raises(UserError, match=words):
        require_cluster(address, "compute.address")


def test_auto_with_the_address_of_a_killed_head(tmp_path, monkeypatch):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: set())
    with pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1: "):
        require_cluster("auto", "compute.address")
    (tmp_path / "ray" / "ray_current_cluster").unlink()
    require_cluster("auto", "compute.address")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107"),
            f"too long a name .* RAY_TMPDIR .* at most {LONGEST_TMPDIR} characters",
        ),
        (PermissionError(13, "Permission denied"), "cannot start there: Permission denied; set"),
    ],
)
def test_a_temporary_folder_that_ray_cannot_use(monkeypatch, error, words):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_TMPDIR", "/some/place")
    with pytest.raises(UserError, match=f"/some/place: .*{words}"), ray_session(ComputeConfig()):
        pytest.fail("entered")
    assert os.environ["RAY_TMPDIR"] == "/some/place"


@pytest.mark.parametrize("home", ["/proc", "writable", "with a token"])
def test_a_home_that_cannot_be_written_to_is_no_obstacle(tmp_path, monkeypatch, home):
    """Ray keeps the token of a new cluster there."""
    seen = []
    monkeypatch.setattr(ray, "init", lambda **_: seen.append(os.environ.get("RAY_AUTH_TOKEN")))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", "/proc" if home == "/proc" else str(tmp_path))
    if home == "with a token":
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("mine")
    with ray_session(ComputeConfig()):
        pass
    (token,) = seen
    assert (token is not None and len(token) == 64) == (home == "/proc")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # restored to what it was at the end
