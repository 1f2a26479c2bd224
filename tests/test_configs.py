from pathlib import Path

import pytest

from ltdd_ray.config.loading import load_config

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_config_loads_and_says_what_it_is(path: Path) -> None:
    load_config(path)
    assert path.read_text().startswith("# "), (
        "the header comment gives paper, command, hardware and expected result"
    )


def test_no_two_configs_write_to_the_same_folder() -> None:
    folders = [load_config(path).folder for path in CONFIGS]
    assert len(set(folders)) == len(folders)
