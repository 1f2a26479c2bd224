import os

import pytest


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """Flushing would take most of the time, and these tests kill processes, not the power. When it is called has its own test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
