"""Completions that bash gets from the script."""

import subprocess
from pathlib import Path

import pytest

from ltdd_ray.cli import main as cli
from ltdd_ray.cli.completion import completion

# Asks as the TAB key does: the words of the line, the last of which is to be completed.
ASK = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_ltdd_ray; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ltdd-ray rep", {"report"}),
        ("ltdd-ray run my", {"my.yaml", "myruns"}),
        ("ltdd-ray run my.yaml --se", {"--set"}),
        ("ltdd-ray report myruns myruns/d", {"myruns/demo"}),
        ("ltdd-ray compare my.y", {"my.yaml"}),
        ("ltdd-ray export myruns --to par", {"parquet"}),
        ("ltdd-ray store verify myr", {"myruns"}),
        ("ltdd-ray data info my.y", {"my.yaml"}),
        ("ltdd-ray completion z", {"zsh"}),
    ],
)
def test_bash_completes_verbs_options_and_files(
    line: str, expected: set[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").touch()
    (tmp_path / "myruns" / "demo").mkdir(parents=True)
    command = ["bash", "-c", f"{completion('bash')}\n{ASK}", "bash", *line.split()]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(answer.stdout.split()) == expected


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef ltdd-ray") and "_files" in script
