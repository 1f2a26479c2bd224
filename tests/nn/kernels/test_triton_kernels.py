"""The Triton kernels, run by Triton's interpreter, which needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_with_the_interpreter() -> None:
    """In a process of its own: Triton asks for its interpreter once, when it is imported."""
    pytest.importorskip("triton")
    kernels = Path(__file__).with_name("interpreted_triton_kernels.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(kernels)]
    done = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "18 passed" in done.stdout
