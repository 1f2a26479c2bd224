"""Every shipped config loads, and its header is complete.

The header of a config that runs states its purpose, then Command, Hardware and Expected, each
behind its label. Paper (or Method) and Data may stand in the file that it extends. A
`_published.yaml` is only extended: it has Paper and Data, but no command.
"""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ltdd_ray.cli.parser import build_parser
from ltdd_ray.config.loading import load_config
from ltdd_ray.methods import METHODS, name_note
from ltdd_ray.methods.published import published_accuracy

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
PARENTS = [path for path in CONFIGS if path.name.startswith("_")]
RUN = [path for path in CONFIGS if path not in PARENTS]
UNPUBLISHED = "not published"  # a cell of the published setting for which the paper has no number


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def header(text: str) -> dict[str, str]:
    """The first sentence as `purpose`, and the text behind each label."""
    lines = re.match(r"(#.*\n)*", text)[0].splitlines()
    found, label = {}, "purpose"
    for line in lines:
        if labelled := re.fullmatch(r"# ([A-Z][a-z]+): +(.*)", line):
            label = labelled[1]
            assert label not in found, f"{label} is there twice"
            found[label] = labelled[2].strip()
        elif label == "purpose" or line.startswith("#  "):
            found[label] = f"{found.get(label, '')} {line.removeprefix('#').strip()}".strip()
        else:
            label = "other"  # a paragraph without a label is nobody's continuation
    return found


def inherited(path: Path) -> dict[str, str]:
    """The labels of `path` and of all that it extends, its own first."""
    text = path.read_text()
    parent = yaml.safe_load(text).get("extends")
    return {**(inherited(path.parent / parent) if parent else {}), **header(text)}


@pytest.mark.parametrize("path", RUN, ids=name)
def test_a_config_that_runs_says_what_it_promises(path: Path) -> None:
    own, all_labels = header(path.read_text()), inherited(path)
    assert len(own["purpose"].split()) >= 5
    assert {"Command", "Hardware", "Expected"} <= own.keys()
    assert all_labels.keys() & {"Paper", "Method"}
    assert "Data" in all_labels
    assert all(own.values())
    told = re.search(r"\d %", own["Expected"]) or own["Expected"].startswith(UNPUBLISHED)
    assert told, "the expected result is an accuracy in percent, if there is one"


@pytest.mark.parametrize("path", RUN, ids=name)
def test_a_set_with_the_name_of_a_method_has_its_settings(path: Path) -> None:
    assert name_note(load_config(path)) == ""


@pytest.mark.parametrize("path", PARENTS, ids=name)
def test_a_config_that_is_extended_names_paper_and_data_alone(path: Path) -> None:
    own = header(path.read_text())
    assert len(own["purpose"].split()) >= 5
    assert own["Paper"] and own["Data"]
    assert not own.keys() & {"Command", "Expected"}
    assert any(path == (one.parent / (extends(one) or "")).resolve() for one in CONFIGS)


def extends(path: Path) -> str | None:
    return yaml.safe_load(path.read_text()).get("extends")


@pytest.mark.parametrize("path", RUN, ids=name)
def test_the_command_of_a_header_is_understood_and_names_its_file(path: Path) -> None:
    command = re.sub(r" +\(.*\)$", "", header(path.read_text())["Command"])
    program, *words = shlex.split(command)
    options = build_parser().parse_args(words)
    assert program == "ltdd-ray"
    assert options.config == name(path)
    assert set((getattr(options, "methods", None) or METHODS[0]).split(",")) <= set(METHODS)
    load_config(path, options.set)


@pytest.mark.parametrize("path", RUN, ids=name)
def test_a_published_number_is_the_papers(path: Path) -> None:
    config, expected = load_config(path), header(path.read_text())["Expected"]
    where = (config.data.name or config.data.source, config.data.imbalance_factor)
    published = published_accuracy(*where, config.method, config.distill.ipc)
    if expected.startswith("published"):
        shown = float(re.match(r"published ([\d.]+) %", expected)[1])
        assert shown == pytest.approx(100 * published)
    elif expected.startswith(UNPUBLISHED):
        assert published is None and extends(path) == "_published.yaml"
    else:
        assert extends(path) != "_published.yaml", "a published cell shows the published number"


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_every_shipped_config_loads(path: Path) -> None:
    load_config(path)


def test_no_two_configs_write_to_the_same_folder() -> None:
    folders = [load_config(path).folder for path in CONFIGS]
    assert len(set(folders)) == len(folders)
