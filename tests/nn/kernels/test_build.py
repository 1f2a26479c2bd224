"""The cache of compiled kernels: whole libraries, in a folder that only this user can change."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltdd_ray.nn.kernels.build import load_kernels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_kernels.cache_clear()
    yield tmp_path / "cache" / "ltdd_ray"
    load_kernels.cache_clear()


LOAD = (
    "from ltdd_ray.nn.kernels.build import load_kernels; "
    "print('loaded' if load_kernels('float') else 'none')"
)


def load() -> str:
    """What a new process says: one that dies of a signal fails the test."""
    command = [sys.executable, "-c", LOAD]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_cut_or_altered_library_is_built_anew(cache: Path) -> None:
    assert load() == "loaded"
    (library,) = cache.glob("*.so")
    sound = library.stat().st_size
    assert cache.stat().st_mode & 0o777 == 0o700
    library.write_bytes(library.read_bytes()[:5000])
    assert load() == "loaded" and library.stat().st_size == sound
    library.with_suffix(".sha256").write_bytes(b"\xff")
    assert load() == "loaded" and len(library.with_suffix(".sha256").read_bytes()) == 64
    assert len(list(cache.iterdir())) == 2


def test_a_folder_that_others_can_write_is_not_used(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert load_kernels("float") is None
    assert "writable by other users; run `chmod 700" in caplog.text
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_leads_to_torch(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.touch()
    assert load_kernels("float") is None
    assert "networks fall back to slower torch operations" in caplog.text
