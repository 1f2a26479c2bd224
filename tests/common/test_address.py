from pathlib import Path

import pytest

from ltdd_ray.common.address import cache_folder, inside, is_address, make_private, shown
from ltdd_ray.common.errors import UserError

ADDRESS = "s3://key:secret@bucket/runs?region=us-east-1&token=x"


def test_an_address_is_no_path() -> None:
    assert (
        is_address("s3://bucket/runs") and not is_address("runs/s3:") and not is_address(Path("a"))
    )


def test_a_folder_inside_keeps_key_and_options() -> None:
    expected = "s3://key:secret@bucket/runs/a/b?region=us-east-1&token=x"
    assert inside(ADDRESS, "a/b") == expected
    assert inside("gs://bucket/", "a") == "gs://bucket/a"


def test_people_see_neither_key_nor_options() -> None:
    assert shown(ADDRESS) == "s3://bucket/runs"
    assert shown("gs://bucket/a@b/") == "gs://bucket/a@b"
    assert shown("s3://key:a?b/c@bucket/runs") == "s3://bucket/runs"


def test_each_place_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder(ADDRESS, "runs")
    assert folder.parent == tmp_path / "ltdd_ray" / "runs" and folder.name.startswith("runs-")
    assert cache_folder(ADDRESS.replace("secret", "new"), "runs") == folder
    others = ("s3://key:secret@bucket/runs", ADDRESS.replace("bucket", "bucket2"))
    others = (*others, ADDRESS.replace("us-east-1", "eu-central-1"))
    found = {cache_folder(other, "runs") for other in others}
    assert len(found) == 3 and folder not in found
    assert cache_folder(ADDRESS, "copies") != folder
    assert "secret" not in str(folder)


def test_the_folder_is_for_its_user_only(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    make_private(tmp_path / "a" / "b")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UserError, match=r"^s3://bucket/runs: .*; set XDG_CACHE_HOME to a folder$"):
        cache_folder(ADDRESS, "runs")
