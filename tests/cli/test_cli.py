import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltdd_ray.cli import main as cli
from ltdd_ray.common.errors import UserError
from ltdd_ray.config import RunConfig
from ltdd_ray.config.loading import dump_config


@pytest.fixture
def config(tmp_path: Path, tiny: Callable[..., RunConfig]) -> str:
    file = tmp_path / "tiny.yaml"
    file.write_text(dump_config(tiny(tmp_path / "runs")))
    return str(file)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["--help"])
    assert exit.value.code == 0
    help = capsys.readouterr().out
    commands = "run experts distill evaluate report compare search status init export store data"
    assert {*commands.split(), "recommend", "bench", "completion"} <= set(
        re.findall(r"^    (\w+)\s", help, re.MULTILINE)
    )


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["run"], ["store", "ls"], ["run", "a.yaml", "--sett", "x=1"]]
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["rnu", "a.yaml"], "run"),
        (["store", "lss", "a"], "ls"),
        (["export", "a", "--to", "parqet"], "parquet"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert f"did you mean `{nearest}`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["run", "a.yaml", "--sett", "a=b"], "--sett a=b; did you mean `--set`?"),
        (
            ["data", "info", "my", "photos.yaml"],
            "photos.yaml; a name that holds spaces needs quotes",
        ),
        (["run", "a.yaml", "--qqq"], "unrecognized arguments: --qqq\n"),
        (["run", "a.yaml", "--methods", "a"], "ltdd-ray run: error: unrecognized arguments"),
        (["run", "a.yaml", "--methods", "a"], "--methods a\n"),  # of `compare`
    ],
)
def test_words_that_no_command_takes_get_a_hint(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert hint in capsys.readouterr().err


def test_a_missing_config_is_answered_with_the_nearest_file(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(config)
    assert cli.main(["run", str(file.with_suffix(".yml"))]) == 1
    assert f"tiny.yml: no such config file; did you mean {file}?" in capsys.readouterr().err
    assert cli.main(["run", str(file.with_name("other.yaml"))]) == 1
    assert "did you mean" not in capsys.readouterr().err


def test_overrides_reach_the_config(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = "--set data.imbalance_factor=5 data.test_fraction=0.25 --set seed=1"
    assert cli.main(["data", "info", config, *overrides.split()]) == 0
    assert "imbalance factor 5.1" in capsys.readouterr().out


def test_data_info_tells_of_a_name_that_is_no_method(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in ((["--set", "method=mine"], True), ([], False)):
        assert cli.main(["data", "info", config, "--no-timing", *words]) == 0
        assert ("so it only names the set" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("command", "module"), [("compare", "run_methods"), ("recommend", "recommend")]
)
def test_methods_are_laid_over_the_config_without_its_own(
    command: str, module: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        f"ltdd_ray.workflows.compare.{module}.{command}", lambda base, *rest: seen.append(base)
    )
    assert cli.main([command, config, "--set", "method=mtt"]) == 0
    assert seen[0].distill.lambda_cls > 0, "the setting of `mtt` would stay under other methods"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("distill.ipcc=3", "unknown key `distill.ipcc`; did you mean `distill.ipc`?"),
        ("distill.ipc=0", "`distill.ipc` = 0"),
        ("data.imbalance_factor=0.5", "`data.imbalance_factor` = 0.5"),
        ("distill.classifier.expert_epochs=4", "lies beyond the trajectory"),
        ("data.source=imagefolder", "data.path"),
        ("output=tiny.yaml", "not writable"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    config: str,
    change: str,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(config).parent
    monkeypatch.chdir(folder)
    assert cli.main(["run", config, "--set", change]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and complaint in error
    assert [entry.name for entry in folder.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize("other", ["model.norm=batch", "distill.hypergradient=unrolled"])
def test_a_batch_that_cannot_be_split_is_refused_before_work(
    config: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", config, "--set", "distill.micro_batch=8", other]) == 1
    assert "micro_batch 8 needs hypergradient exact" in capsys.readouterr().err


def test_a_stage_names_the_one_it_needs_first(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["distill", config]) == 1
    assert "run `ltdd-ray experts` with the same config first" in capsys.readouterr().err
    assert not (Path(config).parent / "runs" / "tiny").exists()


@pytest.mark.parametrize("name", ["k_center", "random_soft", "k_center_soft", "graph_cut"])
def test_stages_that_are_not_needed_are_not_asked_for(
    name: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", config, "--set", f"evaluate.sets=[{name}]"]) == 1
    assert "run `ltdd-ray experts` with the same config first" in capsys.readouterr().err


def test_compare_names_the_nearest_method(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", config, "--methods", "random,k_centre"]) == 1
    assert "unknown method `k_centre`; did you mean `k_center`?" in capsys.readouterr().err
    assert not (Path(config).parent / "runs").exists()


@pytest.mark.parametrize("methods", ["", ",", " , "])
def test_compare_refuses_an_empty_list_of_methods(
    methods: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", config, "--methods", methods]) == 1
    assert "the list of methods is empty" in capsys.readouterr().err
    assert not (Path(config).parent / "runs").exists()


@pytest.mark.parametrize(
    "command",
    [
        *("report demo", "show demo", "status demo"),
        *("export demo --to npz", "push demo a/b --license x"),
    ],
)
def test_a_shipped_config_stands_for_its_run_in_every_command(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(command.split()) == 1
    assert "the folder of its run, runs/demo, does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (
            "report {}/none",
            "none: there is no such folder; name the folder that `ltdd-ray run` wrote",
        ),
        ("report {}", "not the folder of a run, as it holds no config.yaml"),
        ("export {}/note.txt --to npz", "note.txt: not a distilled set; give the folder of a run"),
        (
            "init {}/note.txt",
            "note.txt: not a folder; give one that holds a folder of images per class",
        ),
        ("data info {}", "a folder, not a config file; `ltdd-ray init "),
        ("compare {}", "a folder, not a config file; `ltdd-ray init "),
    ],
)
def test_a_wrong_place_is_named_with_what_to_give_instead(
    command: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note.txt").write_text("no config")
    assert cli.main(command.format(tmp_path).split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and complaint in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.txt"]


def test_debug_shows_where_an_error_came_from(config: str) -> None:
    with pytest.raises(UserError):
        cli.main(["run", config, "--set", "distill.ipc=0", "--debug"])


@pytest.mark.parametrize(
    "error",
    [KeyError("weight"), RuntimeError("Traceback:\n  deep\nShapeError: weight"), AssertionError()],
)
def test_an_unexpected_error_is_one_line_too(
    config: str,
    error: Exception,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("ltdd_ray.config.loading.load_config", broken)
    assert cli.main(["run", config]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: unexpected {type(error).__name__}") and said.count("\n") == 1
    assert ("weight" in said) == bool(str(error)) and "run the same command with --debug" in said
    with pytest.raises(type(error)):
        cli.main(["run", config, "--debug"])


@pytest.mark.parametrize(
    "command",
    [["store", "ls", "none"], ["export", "none", "--to", "npz"], ["data", "info", "none"]],
)
def test_every_command_can_show_its_stack_trace(command: list[str]) -> None:
    with pytest.raises(UserError):
        cli.main([*command, "--debug"])


def test_sigterm_ends_a_command_like_ctrl_c() -> None:
    code = """
import sys, time
from ltdd_ray.cli import main as cli

def wait(options):
    print("waits", flush=True)
    time.sleep(600)

cli.COMMANDS["configs"] = wait
sys.exit(cli.main(["configs"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "waits\n"
            process.terminate()
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143
    assert said == "terminated; the same command resumes from what is finished\n"


@pytest.mark.ray
def test_sigterm_during_ray_leaves_a_run_to_resume(config: str) -> None:
    command = [sys.executable, "-m", "ltdd_ray", "experts", config, "--set", "experts.count=40"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    store = Path(config).parent / "runs" / "tiny" / "experts"
    deadline = time.monotonic() + 120
    while not list(store.glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline, "no expert was trained"
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and "terminated; the same command resumes" in said


def test_ctrl_c_names_the_way_to_resume(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ltdd_ray.config.loading.load_config", interrupted)
    assert cli.main(["run", config]) == 130
    assert "the same command resumes" in capsys.readouterr().err


def test_store_commands_and_their_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["store", "ls", str(tmp_path / "none")]) == 2
    assert "error: " in capsys.readouterr().err
    (tmp_path / "store").mkdir()
    for action in ("ls", "verify", "gc"):
        assert cli.main(["store", action, str(tmp_path / "store"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []
    (tmp_path / "store" / "stray.arrow").touch()
    assert cli.main(["store", "verify", str(tmp_path / "store")]) == 1
    assert "stray.arrow: no manifest points to this file; move it out" in capsys.readouterr().out
    (tmp_path / "store" / "expert-0000.classifier.json").touch()
    for action in ("ls", "gc", "verify"):
        assert (
            cli.main(["store", action, str(tmp_path / "store")])
            == {"ls": 2, "gc": 0, "verify": 1}[action]
        )


def test_the_package_runs_as_a_module() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "ltdd_ray", "run", "none.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1 and answer.stderr.startswith(
        "error: none.yaml: no such config file"
    )
