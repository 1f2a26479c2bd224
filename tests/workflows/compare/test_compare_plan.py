from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray import methods
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.workflows.compare.plan import expert_trainers, plan_comparison
from ltdd_ray.workflows.compare.run_methods import compare

Tiny = Callable[..., RunConfig]


def test_every_run_has_its_folder_and_all_share_the_experts(tmp_path: Path, tiny: Tiny) -> None:
    base = tiny(tmp_path)
    members = plan_comparison(base, ["random", "ltdd", "random", "mtt"])
    assert list(members) == ["random", "ltdd", "mtt"]
    assert [config.folder for config in members.values()] == [
        base.folder / method for method in members
    ]
    assert {config.store_uri for config in members.values()} == {str(base.folder / "experts")}


def test_a_store_of_its_own_is_shared_too(tmp_path: Path, tiny: Tiny) -> None:
    members = plan_comparison(
        tiny(tmp_path, experts={"count": 2, "store": "s3://bucket/experts"}), ["ltdd", "datm"]
    )
    assert {config.store_uri for config in members.values()} == {"s3://bucket/experts"}


def test_other_experts_go_to_another_store(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = {"experts": {"representation": {"sharpness": "sam"}}}
    monkeypatch.setitem(methods.REGISTRY._registered, "sharp", overlay)
    base = tiny(tmp_path)
    members = plan_comparison(base, ["sharp", "ltdd"])
    assert members["ltdd"].store_uri == base.store_uri
    assert members["sharp"].store_uri.startswith(f"{base.store_uri}-")
    assert members["sharp"] == plan_comparison(base, ["sharp"])["sharp"]


def test_the_method_with_most_experts_trains_those_of_a_store(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one would leave some untrained, for which the others wait."""
    monkeypatch.setitem(methods.REGISTRY._registered, "fewer", {"experts": {"count": 1}})
    sharp = {"experts": {"representation": {"sharpness": "sam"}}}
    monkeypatch.setitem(methods.REGISTRY._registered, "sharp", sharp)
    base = tiny(tmp_path, experts={"count": 2})
    members = plan_comparison(base, ["random", "fewer", "sharp", "ltdd", "mtt"])
    assert list(expert_trainers(members)) == ["ltdd", "sharp"]


def test_an_empty_list_of_methods_fails_before_any_work(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(UserError, match="the list of methods is empty; name at least one of ltdd"):
        compare(tiny(tmp_path), [])
    assert not list(tmp_path.iterdir())


def test_an_unknown_method_fails_before_any_work(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(UserError, match="did you mean `ltdd`"):
        plan_comparison(tiny(tmp_path), ["random", "lttd"])
