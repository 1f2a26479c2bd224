"""Configs with generated values under real keys: a config, or one sentence that names the key."""

from typing import Any

import pytest
from generatedkit import VALUES, altered, generated
from hypothesis import given
from hypothesis import strategies as st

from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config, load_config, parse_config
from ltdd_ray.config.shipped import shipped_configs
from ltdd_ray.config.yaml_text import parse_yaml

WHOLE = parse_yaml(dump_config(load_config("demo")), "demo")


def is_sound(tree: dict[str, Any]) -> bool:
    try:
        config = parse_config(tree, "here")
    except UserError as error:
        assert str(error)
        return False
    again = parse_yaml(dump_config(config), "again")
    assert parse_config(again, "again") == config
    return True


def test_the_whole_tree_is_sound() -> None:
    assert is_sound(WHOLE) and len(shipped_configs()) > 20


@generated(60)
@given(data=st.data())
def test_any_value_under_a_real_key(data: st.DataObject) -> None:
    is_sound({"plugins": [], **altered(data, {k: v for k, v in WHOLE.items() if k != "plugins"})})


@generated(60)
@given(st.dictionaries(st.sampled_from([*RunConfig.model_fields, "x"]), VALUES, max_size=4))
def test_any_section(tree: dict[str, Any]) -> None:
    is_sound({**tree, "plugins": []})


@generated(60)
@given(
    key=st.sampled_from(["distill.ipc", "data.path", "name", "a.b", "", ".", "distill."]),
    value=st.text(max_size=12),
)
def test_any_override(key: str, value: str) -> None:
    try:
        assert isinstance(load_config("demo", [f"{key}={value}"]), RunConfig)
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9"])
def test_text_that_no_file_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"`data\.name` = .* UTF-8"):
        load_config("demo", [], data__name=text)
