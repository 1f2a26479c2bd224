"""A near miss is answered with what was meant, and nothing else is."""

from pathlib import Path

import pytest

from ltdd_ray.cli import main as cli
from ltdd_ray.common.hints import nearest, nearest_path


def test_only_a_similar_name_is_offered() -> None:
    assert nearest("distiled", ["random", "distilled"]) == "; did you mean `distilled`?"
    assert nearest("photos", ["random", "distilled"]) == nearest("a", []) == ""


def test_a_path_is_completed_from_its_first_missing_part(tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "russ").mkdir()  # as near as `runs`, but it holds no `demo`
    assert nearest_path(tmp_path / "rusn" / "demo") == (
        f"; did you mean `{tmp_path / 'runs' / 'demo'}`?"
    )
    assert nearest_path(tmp_path / "runs" / "demos") == (
        f"; did you mean `{tmp_path / 'runs' / 'demo'}`?"
    )
    assert nearest_path(tmp_path / "runs" / "photos") == ""
    assert nearest_path(tmp_path / "none" / "at" / "all") == ""


def test_a_folder_that_cannot_be_read_gives_no_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert nearest_path(tmp_path / "photos") == ""
    assert nearest_path("a" * 300) == ""


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("status runs/demoo", "`runs/demo`"),
        ("status run/demo", "`runs/demo`"),
        ("report runs/dmo", "`runs/demo`"),
        ("show runs/demoo", "`runs/demo`"),
        ("export runs/demoo --to npz", "`runs/demo`"),
        ("push runs/demoo a/b --license mit", "`runs/demo`"),
        ("store ls runs/demo/expert", "`runs/demo/experts`"),
        ("store gc runs/demo/expert", "`runs/demo/experts`"),
        ("init photoss", "`photos`"),
        ("run photoss.yaml", "photos.yaml"),
        ("run photos", "photos.yaml"),
        ("run demoo", "`demo`"),
        ("data info cifar10_lt/cpuu.yaml", "`cifar10_lt/cpu`"),
        ("configs demoo", "`demo`"),
        ("run photos.yaml --set evaluate.sets=[distiled]", "`distilled`"),
        ("run photos.yaml --set distill.engine=tgd", "`tgdd`"),
        ("data info photos.yaml --set data.path=photso --no-timing", "`photos`"),
    ],
)
def test_every_place_and_name_on_the_command_line(
    command: str,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/demo/experts", "photos/cat", "photos/owl"):
        Path(folder).mkdir(parents=True)
    Path("photos.yaml").write_text(
        "name: photos\ndata: {source: imagefolder, path: photos, test_fraction: 0.2}\n"
        "distill: {ipc: 1}\n"
    )
    assert cli.main(command.split()) in (1, 2)
    said = capsys.readouterr().err
    assert f"did you mean {meant}?" in said and said.count("\n") == 1


def test_a_shipped_config_is_not_offered_to_a_file_that_extends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("extends: demoo.yaml\n")
    assert cli.main(["run", "mine.yaml"]) == 1
    assert "did you mean" not in capsys.readouterr().err


def test_a_misspelt_option_is_named_where_it_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in ("export a --too npz", "export a --too=npz", "push a b/c --licence mit"):
        with pytest.raises(SystemExit, match="2"):
            cli.main(words.split())
    said = capsys.readouterr().err
    assert said.count("did you mean `--to`?") == 2
    assert said.count("are required: --license; did you mean `--license`?") == 1
