"""Each method is a few settings over one config, here the CPU config of LTDD."""

import sys
from pathlib import Path

import pytest
import yaml

from ltdd_ray import methods
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig, Section
from ltdd_ray.config.loading import dump_config, load_base_config, load_config
from ltdd_ray.config.overlays import REGISTRY
from ltdd_ray.methods import METHODS, method_config, name_note, unlike_method

CONFIGS = Path(__file__).parents[2] / "configs" / "cifar10_lt"
TUNED = (
    "ipc",
    "updates",
    "segments_per_update",
    "hypergradient",
    "lr_image",
    "momentum_image",
    "syn_lr",
    "lr_syn_lr",
    "classifier",
)


# Where a method needs experts of its own.
EXPERTS = {"rldd": {"count": 2, "norm": "batch", "representation.criterion": "debiased"}}


@pytest.fixture(scope="module")
def base() -> RunConfig:
    return load_config(CONFIGS / "cpu.yaml", ["distill.representation.dam.class_weights=frequency"])


def differences(one: Section, other: Section, prefix: str = "") -> dict[str, object]:
    """The settings of ``one`` that differ in ``other``, by dotted name."""
    found: dict[str, object] = {}
    for key in type(one).model_fields:
        here, there = getattr(one, key), getattr(other, key)
        if isinstance(here, Section):
            found |= differences(here, there, f"{prefix}{key}.")
        elif here != there:
            found[prefix + key] = here
    return found


def test_every_overlay_is_a_method() -> None:
    files = {file.stem for file in Path(methods.__file__).parent.glob("*.yaml")}
    assert files - {"published"} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_header_and_keeps_the_tuned_settings(method: str, base: RunConfig) -> None:
    text = (Path(methods.__file__).parent / f"{method}.yaml").read_text()
    assert text.startswith("# "), "the header comment names the paper and the difference"
    config = method_config(base, method)
    assert config.method == method
    for section in ("data", "model", "compute"):
        assert getattr(config, section) == getattr(base, section)
    assert differences(config.experts, base.experts) == EXPERTS.get(method, {})
    assert set(differences(config.evaluate, base.evaluate)) <= {"sets"}
    assert not [
        key for key in differences(config.distill, base.distill) if key.split(".")[0] in TUNED
    ]
    assert config.distill.representation.syn_steps == base.distill.representation.syn_steps


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("ltdd", {}),
        (
            "ed",
            {"representation.dam.class_weights": "none", "representation.dam.lambda_prior": 0.0},
        ),
        (
            "dam",
            {"lambda_cls": 0.0, "label_expert": "representation", "representation.scope": "all"},
        ),
    ],
)
def test_ltdd_and_the_two_rows_of_its_ablation(
    method: str, expected: dict[str, object], base: RunConfig
) -> None:
    config = method_config(base, method)
    assert differences(config.distill, base.distill) == expected
    assert config.evaluate.sets == ("distilled",)


def test_datm_is_the_config_that_was_written_out(base: RunConfig) -> None:
    datm, written = method_config(base, "datm"), load_config(CONFIGS / "cpu_datm.yaml")
    assert set(differences(datm, written)) == {"name", "experts.store"}


def test_mtt_is_datm_with_hard_labels_on_random_images(base: RunConfig) -> None:
    mtt, datm = method_config(base, "mtt"), method_config(base, "datm")
    wanted = {
        "initial_labels": "one_hot",
        "lr_label": 0.0,
        "label_expert": "classifier",
    }  # of which the last has no meaning
    assert differences(mtt.distill, datm.distill) == wanted


@pytest.mark.parametrize(
    "method",
    [
        *("random", "k_center", "random_soft", "k_center_soft", "graph_cut"),
        *("full_ce", "full_balanced_softmax", "full_decoupled"),
    ],
)
def test_a_method_without_distillation_changes_only_its_set(method: str, base: RunConfig) -> None:
    assert differences(method_config(base, method), base) == {
        "method": method,
        "evaluate.sets": (method,),
    }


@pytest.mark.parametrize("method", ["random", "k_center", "random_soft", "k_center_soft"])
def test_a_mosaic_of_real_images_differs_in_its_pictures_alone(
    method: str, base: RunConfig
) -> None:
    mosaic, plain = method_config(base, f"{method}_mosaic"), method_config(base, method)
    assert differences(mosaic, plain) == {
        "method": f"{method}_mosaic",
        "distill.pictures_per_side": 2,
    }


def test_forms_of_a_set_are_trained_on_only_where_the_config_names_them(base: RunConfig) -> None:
    wanted = ("distilled", "distilled_hard", "random_soft_unaugmented", "full_ce")
    evaluate = base.evaluate.model_copy(update={"sets": wanted})
    more = base.model_copy(update={"evaluate": evaluate})
    sets = {
        method: (
            method_config(base, method).evaluate.sets,
            method_config(more, method).evaluate.sets,
        )
        for method in ("ltdd", "random_soft", "random", "full_ce")
    }
    assert sets == {
        "ltdd": (("distilled",), ("distilled", "distilled_hard")),
        "random_soft": (("random_soft",), ("random_soft", "random_soft_unaugmented")),
        "random": (("random",), ("random",)),
        "full_ce": (("full_ce",), ("full_ce",)),
    }


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("random", ()),
        ("k_center", ("experts",)),
        ("random_soft", ("experts",)),
        ("k_center_soft", ("experts",)),
        ("graph_cut", ("experts",)),
        ("full_ce", ()),
        ("ltdd", ("experts", "distill")),
        ("mtt", ("experts", "distill")),
        ("rldd", ("experts", "distill")),
    ],
)
def test_which_stages_a_method_needs(method: str, needed: tuple[str, ...], base: RunConfig) -> None:
    config = method_config(base, method)
    assert (config.needs_experts, config.distils) == ("experts" in needed, "distill" in needed)


def test_an_unknown_method_is_answered_with_the_nearest(base: RunConfig) -> None:
    with pytest.raises(UserError, match=r"unknown method `k-centre`; did you mean `k_center`\?"):
        method_config(base, "k-centre")


@pytest.mark.parametrize("method", ["ltdd", "ltdd_mosaic", "ed", "dam", "datm", "mtt"])
def test_trajectory_matching_is_chosen_over_a_config_of_another_engine(method: str) -> None:
    other = load_config(
        CONFIGS / "cpu_tgdd.yaml",
        ["distill.representation.start_epochs.max=5", "distill.classifier.expert_epochs=1"],
    )
    assert method_config(other, method).distill.engine == "matching"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_its_own_settings(method: str, base: RunConfig) -> None:
    assert name_note(method_config(base, method)) == ""


def test_the_name_of_a_method_over_other_settings_is_told() -> None:
    mosaics = load_config(CONFIGS / "cpu_tgdd.yaml", ["method=tgdd", "distill.pictures_per_side=2"])
    assert "distill.pictures_per_side is 2, which is 1 in `tgdd`" in name_note(mosaics)
    matching = load_config(CONFIGS / "cpu_tgdd.yaml", ["distill.engine=tgdd", "method=dm"])
    assert "distill.engine is tgdd, which is dm in `dm`" in name_note(matching)
    tuned = ["method=tgdd", "distill.distribution.lr_image=0.05"]
    assert name_note(load_config(CONFIGS / "cpu_tgdd.yaml", tuned)) == ""


def test_a_name_that_is_no_method_keeps_the_settings_and_is_told() -> None:
    plain, renamed = (load_config(CONFIGS / "cpu_tgdd.yaml", w) for w in ([], ["method=mine"]))
    assert renamed.model_copy(update={"method": plain.method}) == plain
    assert name_note(renamed) == "no method is called `mine`, so it only names the set"
    misspelt = plain.model_copy(update={"method": "imd"})  # in a file it may be of another version
    assert name_note(misspelt).endswith("; did you mean `idm`?")


@pytest.mark.parametrize(("name", "meant"), [("imd", "idm"), ("TGDD", "tgdd"), ("tgd", "tgdd")])
def test_a_misspelt_method_is_refused_where_it_is_chosen(name: str, meant: str) -> None:
    """Else the run would go on as another method, under the wrong name."""
    said = f"^method {name}: no method has this name; did you mean `{meant}`"
    with pytest.raises(UserError, match=said):
        load_config(CONFIGS / "cpu_tgdd.yaml", [f"method={name}"])
    with pytest.raises(UserError, match=said):
        load_config(CONFIGS / "cpu_tgdd.yaml", method=name)


@pytest.mark.parametrize("method", METHODS)
def test_set_method_is_the_method_of_a_comparison(method: str, base: RunConfig) -> None:
    """Only sets of a method that distils are the config's, where a comparison has one."""
    words = ["distill.representation.dam.class_weights=frequency", f"method={method}"]
    if method in ("ed", "datm", "mtt"):  # their overlays say it, and what follows --set wins
        words = words[1:]
    chosen, compared = load_config(CONFIGS / "cpu.yaml", words), method_config(base, method)
    sets = base.evaluate.sets if compared.distils else compared.evaluate.sets
    assert chosen.evaluate.sets == sets
    assert differences(chosen, compared).keys() <= {"evaluate.sets"}
    assert name_note(chosen) == ""
    assert load_config(CONFIGS / "cpu.yaml", words[:-1], method=method) == chosen


def test_a_method_in_a_file_wins_over_the_parent_and_gives_way_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        f"extends: {CONFIGS / 'cpu.yaml'}\nmethod: idm\n"
        "distill: {distribution: {momentum_image: 0.7}}\n"
    )
    found = load_config(tmp_path / "a.yaml")
    distill = found.distill
    assert (found.method, distill.engine, distill.pictures_per_side) == ("idm", "idm", 2)
    assert distill.distribution.momentum_image == 0.7
    assert found.experts.count == 12 and found.evaluate.sets == ("distilled", "random", "initial")
    assert load_config(tmp_path / "a.yaml", ["method=dm"]).distill.engine == "dm"
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nmethod: mine\n")
    assert load_config(tmp_path / "b.yaml").distill == distill


def test_only_the_last_method_brings_settings(tmp_path: Path) -> None:
    for method in ("mtt", "rldd", "random"):
        (tmp_path / "a.yaml").write_text(f"extends: {CONFIGS / 'cpu.yaml'}\nmethod: {method}\n")
        (tmp_path / "b.yaml").write_text("extends: a.yaml\nmethod: tgdd\n")
        for other in ("ltdd", "tgdd", "dm"):
            expected = load_config(CONFIGS / "cpu.yaml", [f"method={other}"])
            assert load_config(tmp_path / "a.yaml", [f"method={other}"]) == expected
        assert load_config(tmp_path / "b.yaml") == load_config(CONFIGS / "cpu.yaml", method="tgdd")
        base = load_base_config(tmp_path / "a.yaml")
        expected = load_base_config(CONFIGS / "cpu.yaml", [f"method={method}"])
        assert base == expected == load_base_config(CONFIGS / "cpu.yaml", method=method)
        assert base.distill == load_config(CONFIGS / "cpu.yaml").distill
    renamed = load_config(CONFIGS / "cpu.yaml", ["method=idm", "method=mine"])
    assert (renamed.method, renamed.distill.engine) == ("mine", "idm")
    assert load_config(CONFIGS / "cpu.yaml", ["method=idm"], method="mine") == renamed


def test_a_file_may_leave_out_the_engine_that_its_method_brings(tmp_path: Path) -> None:
    text = (CONFIGS / "cpu_tgdd.yaml").read_text().replace("lr_image: 0.02", "lr_image: 0.05")
    (tmp_path / "whole.yaml").write_text(text)
    lines = (line for line in text.splitlines() if line.strip() != "engine: tgdd")
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    assert "engine:" not in (tmp_path / "a.yaml").read_text()
    for load in (load_config, load_base_config):
        assert load(tmp_path / "a.yaml") == load(tmp_path / "whole.yaml")
    for method in ("idm", "tgdd", "tgdd_mosaic", "random_soft"):
        chosen = load_config(tmp_path / "a.yaml", method=method).distill.distribution
        expected = load_config(tmp_path / "whole.yaml", method=method).distill.distribution
        assert chosen == expected
        assert (chosen.lr_image == 0.05) == (method != "idm")


def test_the_settings_of_one_engine_are_not_carried_to_another() -> None:
    """The rate of TGDD's Adam would hardly move the images under the SGD of IDM."""
    base = load_config(CONFIGS / "cpu_tgdd.yaml")
    for chosen in (
        method_config(base, "idm"),
        load_config(CONFIGS / "cpu_tgdd.yaml", method="idm"),
    ):
        found, sizes = chosen.distill.distribution, base.distill.distribution
        assert (found.lr_image, found.layers, found.class_weight) == (1.0, "last", 5.0)
        assert (found.momentum_image, found.queue.train_on) == (0.0, "real")
        assert (found.updates, found.real_batch) == (sizes.updates, sizes.real_batch)
    assert (
        method_config(load_config(CONFIGS / "cpu.yaml"), "tgdd").distill.distribution.lr_image
        == 0.02
    )
    tuned = load_config(CONFIGS / "cpu_tgdd.yaml", distill__distribution__lr_image=0.05)
    assert method_config(tuned, "tgdd").distill.distribution == tuned.distill.distribution


def test_the_resolved_config_of_an_older_run_keeps_its_settings(tmp_path: Path) -> None:
    """A version without `queue.train_on` trained IDM's networks on the pictures."""
    tree = yaml.safe_load(dump_config(load_config(CONFIGS / "cpu.yaml", method="idm")))
    del tree["distill"]["distribution"]["queue"]["train_on"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    assert load_config(tmp_path / "config.yaml").distill.distribution.queue.train_on == "pictures"
    (tmp_path / "child.yaml").write_text("extends: config.yaml\nname: again\n")
    assert load_config(tmp_path / "child.yaml").distill.distribution.queue.train_on == "pictures"
    assert load_config(tmp_path / "config.yaml", method="mine").distill.engine == "idm"
    with pytest.raises(UserError, match="resolved config of a run of `idm`"):
        load_config(tmp_path / "config.yaml", ["method=ltdd"])
    del tree["augmentation"]  # so somebody wrote it
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    assert load_config(tmp_path / "config.yaml").distill.distribution.queue.train_on == "real"
    assert load_config(tmp_path / "config.yaml", method="ltdd").distill.engine == "matching"


PLAIN = "import ltdd_ray\nltdd_ray.register_method('plain', {'distill': {'lambda_cls': 0.0}})\n"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["plugins: [plain_method]", "method: plain"], []),
        (["method: plain", "plugins: [plain_method]"], []),
        (["method: plain"], ["plugins=[plain_method]"]),
        (["plugins: [plain_method]"], ["method=plain"]),
        ([], ["method=plain", "plugins=[plain_method]"]),
    ],
)
def test_a_method_of_a_plugin_brings_its_settings(
    files: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain_method.py").write_text(PLAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(REGISTRY, "_registered", {})
    monkeypatch.delitem(sys.modules, "plain_method", raising=False)
    parent = CONFIGS / "cpu.yaml"
    for number, text in enumerate(files):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {parent}\n{text}\n")
        parent = tmp_path / f"{number}.yaml"
    assert load_config(parent, words).distill.lambda_cls == 0
    assert load_base_config(parent, words).distill.lambda_cls == 0.5
    if "plugins: [plain_method]" in files:
        assert load_config(parent, ["plugins=[]", "method=ltdd"]).plugins == ()


def test_a_registered_method_without_sets_gets_the_distilled_one(
    base: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGISTRY, "_registered", {"short": {"evaluate": {"epochs": 7}}})
    chosen = method_config(base, "short").evaluate
    assert (chosen.sets, chosen.epochs) == (("distilled",), 7)


def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path, base: RunConfig) -> None:
    for overlay in (
        None,
        {"distill": None},
        {"distill": {"distribution": None}},
        {"evaluate": [1]},
    ):
        with pytest.raises(UserError, match=r"method odd: .*expected a mapping of settings"):
            methods.register_method("odd", overlay)  # pyright: ignore[reportArgumentType]
    for word in ("distill.distribution=null", "distill.distribution=abc"):
        with pytest.raises(UserError, match=r"`distill`: `distribution`: .*expected a mapping"):
            load_config(CONFIGS / "cpu.yaml", [word, "method=idm"])
    for odd in ("null", "[a]", "{a: 1}", "3"):
        with pytest.raises(UserError):
            load_config(CONFIGS / "cpu.yaml", [f"method={odd}"])


def test_a_method_without_a_distilled_set_is_told() -> None:
    words = ["method=tgdd", "evaluate.sets=[random]"]
    note = name_note(load_config(CONFIGS / "cpu.yaml", words))
    assert note == "`tgdd` distils nothing here, as evaluate.sets has no distilled set"


def test_a_setting_that_is_absent_is_not_unlike() -> None:
    assert unlike_method({}, ["tgdd"]) == []  # pyright: ignore[reportArgumentType]
    assert unlike_method({}, "tgdd") == []
