"""Every error is a sentence: those of the operating system, too."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.config.loading import load_config
from ltdd_ray.nn.augment import _OPERATIONS


@pytest.fixture
def fails(
    monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Callable[[BaseException], tuple[int, str]]:
    def run(error: BaseException) -> tuple[int, str]:
        def command(options: object) -> None:
            raise error

        monkeypatch.setitem(cli.COMMANDS, "configs", command)
        code = cli.main(["configs"])
        return code, capfd.readouterr().err

    return run


@pytest.mark.parametrize("number", sorted(cli._REMEDIES))
def test_errors_of_the_system_are_sentences(number: int, fails: Any) -> None:
    code, said = fails(OSError(number, os.strerror(number), "/data/a"))
    assert code == 1 and said.startswith("error: /data/a: ") and said.count("\n") == 1
    assert "unexpected" not in said and cli._REMEDIES[number] in said


def test_a_full_disk_says_what_to_do(fails: Any) -> None:
    assert fails(OSError(errno.ENOSPC, "No space left on device"))[1] == (
        "error: no space left on device; free some space and run the same command again; "
        "finished work is kept\n"
    )


def test_no_memory_is_no_bug(fails: Any) -> None:
    assert "not enough memory; free some" in fails(MemoryError())[1]


def test_a_python_without_the_packages_is_named(fails: Any) -> None:
    """As where the `python` of a job is not that of the environment."""
    said = fails(ModuleNotFoundError("No module named 'rich'", name="rich"))[1]
    assert (
        f"error: {sys.executable} has no module `rich`; run the command with the Python of" in said
    )
    for ours in ("ltdd_ray.cli.none", None):
        assert "this is a bug" in fails(ModuleNotFoundError("No module", name=ours))[1]


def test_a_long_error_is_cut_and_holds_no_commands(fails: Any) -> None:
    code, said = fails(UserError("a" * 300_000 + "\x1b[31m\udcff"))
    assert code == 1 and len(said) < 2100 and said.endswith("\\x1b[31m\\udcff\n")
    assert len(fails(ValueError("b" * 580_000))[1]) < 4200


def test_a_wrong_augmentation_is_answered_by_the_config() -> None:
    with pytest.raises(UserError, match=r"`augmentation` = 'flip_foo': no operation `foo`; choose"):
        load_config("demo", augmentation="flip_foo")
    every = "_".join(_OPERATIONS)
    assert load_config("demo", augmentation=every).augmentation == every


@pytest.mark.parametrize(("value", "example"), [("distilled", "distilled"), ("null", "a, b")])
def test_a_word_in_place_of_a_list_is_answered_by_a_list(value: str, example: str) -> None:
    with pytest.raises(
        UserError, match=rf"`evaluate\.sets` = .*: expected a list, such as \[{example}\]"
    ):
        load_config("demo", [f"evaluate.sets={value}"])


def test_a_config_after_its_settings_is_answered_by_the_order(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--set", "seed=1", "demo"])
    assert "required: CONFIG; CONFIG comes before --set, as in" in capsys.readouterr().err


def test_the_version_is_told(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("ltdd-ray 0.")
