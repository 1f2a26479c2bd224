from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.workflows.pipeline import run


def test_an_empty_list_of_stages_is_refused(tmp_path: Path, tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(UserError, match="the list of stages is empty; name some of experts"):
        run(tiny(tmp_path), ())
    assert not list(tmp_path.iterdir())
