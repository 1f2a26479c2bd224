"""A stopped run says so in its status."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from ltdd_ray.config import RunConfig
from ltdd_ray.runs.status import read_status
from ltdd_ray.workflows import pipeline


def test_an_interrupted_run_leaves_an_event(
    tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "ray_session", lambda *_: nullcontext())
    monkeypatch.setattr(pipeline, "require_workers", lambda *_: None)
    monkeypatch.setattr(pipeline, "_work", interrupted)
    config = tiny(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config, ["experts", "distill"])
    status = read_status(config.folder)
    assert status["last_event"]["event"] == "stopped; submit again to resume"
    assert not status["finished"]
