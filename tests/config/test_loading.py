"""From YAML files and overrides to a config, or to one sentence that says what to mend."""

from pathlib import Path

import pytest

from ltdd_ray.common.errors import UserError
from ltdd_ray.config.loading import dump_config, load_config, parse_config

PARENT = "name: parent\ndata: {source: digits, test_fraction: 0.5}\ndistill: {ipc: 2, updates: 7}\n"


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    (tmp_path / "parent.yaml").write_text(PARENT)
    return tmp_path / "parent.yaml"


def test_values_of_a_file_and_overrides_win_over_those_of_the_parent(parent: Path) -> None:
    child = parent.with_name("child.yaml")
    child.write_text("extends: parent.yaml\nname: child\ndistill: {ipc: 3}\n")
    config = load_config(child, ["distill.lr_image=5", "data.test_fraction=0.25"])
    assert (config.name, config.distill.ipc, config.distill.updates) == ("child", 3, 7)
    assert (config.distill.lr_image, config.data.test_fraction) == (5, 0.25)


def test_what_is_dumped_loads_again(parent: Path, tmp_path: Path) -> None:
    config = load_config(parent)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nseed: 1\nname: b\n", r"`name` stands twice in one mapping \(lines 1 and 3\)"),
        (
            "name: a\ndistill:\n  ipc: 1\n\n  ipc: 2\n",
            r"`ipc` stands twice in one mapping \(lines 3 and 5\); remove one of the two",
        ),
        ("data: {source: npz, 'source': digits}\n", r"`source` stands twice .*\(line 1\)"),
        ("evaluate: {models: [{}, {width: 4, width: 8}]}\n", r"`width` stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"twice\.yaml: the key {words}"):
        load_config(file)


def test_a_key_that_stands_twice_in_an_override_is_refused(parent: Path) -> None:
    with pytest.raises(UserError, match=r"^--set distill=\{ipc: 1, ipc: 2\}: the key `ipc` stands"):
        load_config(parent, ["distill={ipc: 1, ipc: 2}"])


def test_a_key_in_two_mappings_and_one_over_a_merged_one_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "merged.yaml"
    stage = "{<<: *stage, epochs: 60}"
    file.write_text(
        PARENT + "experts:\n  representation: &stage {epochs: 50, lr: 0.5}\n"
        f"  classifier: {stage}\n"
    )
    experts = load_config(file).experts
    assert (experts.classifier.epochs, experts.classifier.lr) == (60, 0.5)
    assert experts.representation.epochs == 50


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("distil.ipc=1", "unknown key `distil`; did you mean `distill`"),
        ("distill.budget={imges: 3}", "unknown key `distill.budget.imges`; did you mean `distill."),
        ("search.space.distill={lw: 1}", "unknown key `search.space.distill.lw`"),
        ("evaluate.models=[{}, {wdth: 3}]", "unknown key `evaluate.models.1.wdth`; did you mean"),
        ("distill.ipc=0", "`distill.ipc` = 0: input should be greater than or equal to 1"),
        ("distill.ipc={", "--set distill.ipc={: the value is not valid YAML; quote it"),
        ("evaluate.sets=[random, random]", "evaluate.sets names random 2 times; name it once"),
        ("evaluate.models=[{}, {}]", "models names convnet3-w128-instance 2 times; name it once"),
        ("search.space.seed={choices: [1, 1]}", "choices names 1 2 times; name it once"),
        (f"name=a/{'b' * 201}", "has 201 characters; a folder's name has at most 200"),
        ("distill.ipc.x=1", "--set distill.ipc.x=1: `ipc` holds a value, not a section"),
        ("distill", "--set distill: expected key=value"),
    ],
)
def test_a_wrong_override_is_one_sentence(parent: Path, override: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(parent, [override])
    assert words in str(error.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UserError, match=r"^here: `data` is missing; set it in the file or with"):
        parse_config({"name": "a", "distill": {"ipc": 1}}, "here")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n", "expected a mapping of settings, found list"),
        ("a: [\n", "not readable as YAML"),
        ("extends: broken.yaml\n", "`extends` leads back to itself"),
        ("extends: none.yaml\n", "no such config file"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_config(tmp_path / "broken.yaml")


def test_a_number_where_text_is_due_says_how_to_quote_it(parent: Path) -> None:
    with pytest.raises(
        UserError, match=r"`name` = 2024: .*; quote it, as in --set 'name=\"2024\"'"
    ):
        load_config(parent, ["name=2024"])
    assert load_config(parent, ['name="2024"']).name == "2024"


def test_a_colour_that_yaml_takes_for_a_comment_says_so() -> None:
    with pytest.raises(UserError, match=r"`data\.background` = None: .* begins with #, as null: q"):
        load_config("demo", ["data.background=#112233"])
    assert load_config("demo", ["data.background='#112233'"]).data.background == "#112233"
