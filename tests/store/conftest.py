import os
from types import SimpleNamespace

import pytest
from pyarrow import fs


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """Flushing takes most of the time and guards against power loss alone. It has its own test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A URI of a file system that is not local; its files lie in ``tmp_path``/bucket/store."""
    subtree = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(
        fs, "FileSystem", SimpleNamespace(from_uri=lambda uri: (subtree, "bucket/store"))
    )
    return "s3://bucket/store"
