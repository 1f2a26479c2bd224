"""Edges at which a person met a stack trace: pipes, YAML of strangers, paths that cannot be."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltdd_ray.cli import main as cli
from ltdd_ray.cli.parser import build_parser
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import refuse_impossible, usable_path
from ltdd_ray.common.shell import command
from ltdd_ray.config.loading import load_config
from ltdd_ray.config.yaml_text import DEEPEST

CONFIG = "name: a\ndata: {source: digits, test_fraction: 0.5}\ndistill: {ipc: 2}\n"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main([*words]) != 0
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 2100
    assert "unexpected" not in said
    return said


@pytest.mark.parametrize(
    ("words", "code"),
    [(["configs"], 141), (["configs", "demo"], 141), (["--help"], 0)],  # argparse ignores it
)
def test_a_reader_that_ends_early_gets_no_stack_trace(words: list[str], code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "ltdd_ray", *words], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert done.returncode == code and done.stderr == b""


def test_a_full_device_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ltdd_ray", "configs"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1 and b"no space left on device" in done.stderr.lower()


def test_a_terminal_without_the_signs_shows_escapes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ltdd_ray.cli import main, commands\n"
         "main.COMMANDS['configs'] = lambda options: print('43.6 \\xb1 1.2')\n"
         "raise SystemExit(main.main(['configs']))"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"43.6 \\xb1 1.2\n", b"")


BOMB = "x0: &x0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"x{i + 1}: &x{i + 1} [{', '.join([f'*x{i}'] * 9)}]\n" for i in range(9)
)
TEXTS = {
    "bomb": (BOMB, "unfold to more than"),
    "bomb of keys": (BOMB.replace("[", "{a: [").replace("]", "]}"), "unfold to more than"),
    "circle": ("x: &x [*x]\n", "contains itself"),
    "deep": ("x: " + "[" * 60 + "]" * 60, f"deeper than {DEEPEST} levels"),
    "very deep": ("x: " + "[" * 20_000, "nested too deeply"),
    "deep mappings": ("{a: " * 5_000 + "1" + "}" * 5_000, "nested too deeply"),
    "huge": ("# " + "x" * 2_100_000, "are no config"),
    "no date": ("x: 2001-13-41\n", "a value cannot be read"),
    "no integer": ("x: !!int many\n", "a value cannot be read"),
    "long integer": (f"seed: {'9' * 5000}\n", "a value cannot be read"),
    "no time": ("x: !!timestamp soon\n", "a value cannot be read"),
    "Python": ("x: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    "list as key": ("? [a, b]\n: 1\n", "unhashable key"),
    "control": ("x: \x01\n", "not readable as YAML"),
    "nothing": ("", "expected a mapping"),
    "extends a NUL": ('extends: "a\\0b"\n', "holds a NUL"),
    "extends too long": (f"extends: {'a' * 5000}\n", "too long for a path"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_strange_yaml_is_one_sentence(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, words = TEXTS[case]
    file = tmp_path / "c.yaml"
    file.write_text(text)
    assert words in answer(capsys, "data", "info", str(file))


@pytest.mark.parametrize("data", [b"name: \xff\n", "name: é\n".encode("latin-1"), b"\xff\xfen\0"])
def test_text_that_is_no_utf8_says_so(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    assert "save it as UTF-8" in answer(capsys, "run", str(tmp_path / "c.yaml"))


@pytest.mark.timeout(120)
def test_a_pipe_in_the_place_of_a_config_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "p.yaml")
    (tmp_path / "c.yaml").write_text("extends: p.yaml\n")
    for words in (["run", "p.yaml"], ["data", "info", "c.yaml"], ["run", "/dev/zero"]):
        place = tmp_path / words.pop()
        assert "a pipe, socket or device" in answer(capsys, *words, str(place))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["run.json", "progress.json", "heartbeat.json", "events.jsonl"])
def test_a_pipe_in_the_place_of_a_record_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert f"{name}: a pipe, socket or device" in answer(capsys, "status", str(tmp_path))


@pytest.mark.parametrize("words", [["run"], ["init"], ["report"], ["data", "info"]])
def test_a_circle_of_links_is_one_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, target in (("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(target)
    answer(capsys, *words, str(tmp_path / "a"))


def test_a_home_folder_is_expanded_in_every_argument(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "d.yaml").write_text("extends: ~/c.yaml\n")
    assert load_config("~/d.yaml").name == "a"
    for words in ("status ~/x", "report --output=~/x ~/x", "init ~/x", "export ~/x --to npz"):
        options = vars(build_parser().parse_args(words.split()))
        paths = [options[key] for key in ("run", "runs", "folder", "place") if key in options]
        assert paths in ([tmp_path / "x"], [[tmp_path / "x"]])
        assert options.get("output") in (None, tmp_path / "x")


def test_a_byte_order_mark_and_aliases_of_use_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbf" + CONFIG.encode())
    assert load_config(tmp_path / "c.yaml").name == "a"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(alphabet=st.sampled_from("ab:[]{}&*!|>-?#%@`'\"\n ,0.1~<="), max_size=60))
def test_any_generated_text_is_a_config_or_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG + text)
    try:
        load_config(tmp_path / "c.yaml")
    except UserError as error:
        assert "\n" not in str(error)


KEYS = ("data.path", "data.test_path", "data.train_list", "data.cache", "data.unlabelled", "output")
PATHS = {
    '"a\\0b"': "holds a NUL",
    "~no_such_user_of_this_machine/x": "names no user",
    "a" * 300: "too long for a path",
    "/".join(["abc"] * 2000): "too long for a path",
}


@pytest.mark.parametrize("key", [*KEYS, "experts.store"])
@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_cannot_be_is_refused_with_the_config(
    key: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    said = answer(capsys, "run", str(tmp_path / "c.yaml"), "--set", f"{key}={path}")
    assert f"`{key}`" in said and PATHS[path] in said


@pytest.mark.parametrize(
    "words",
    [
        ["status", "{}"],
        ["init", "{}"],
        ["export", "{}", "--to", "npz"],
        ["report", "{}"],
        ["run", "{}"],
        ["run", "{}.yaml"],
        ["store", "ls", "{}"],
        ["store", "gc", "{}"],
        ["store", "verify", "~no_such_user_of_this_machine/{}"],
        ["export", "~no_such_user_of_this_machine/x", "--to", "npz"],
    ],
)
@pytest.mark.parametrize("path", ["a" * 300, "/".join(["abc"] * 2000)])
def test_a_path_that_cannot_be_on_the_command_line(
    words: list[str], path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, *(word.format(path) for word in words))


def test_what_is_usable_stays_as_it_is() -> None:
    home = pwd.getpwuid(os.getuid())
    assert usable_path(f"~{home.pw_name}/x") == str(Path(home.pw_dir) / "x")
    assert usable_path("a~/~b") == "a~/~b" and usable_path("é" * 127) == "é" * 127
    assert usable_path(f"s3://b/{'a' * 999}") == f"s3://b/{'a' * 999}"
    with pytest.raises(UserError, match="too long"):
        refuse_impossible("é" * 128)


def test_printed_commands_can_be_pasted() -> None:
    assert command("run", Path("my photos/$HOME's.yaml")) == (
        "ltdd-ray run 'my photos/$HOME'\"'\"'s.yaml'"
    )
    assert command("run", Path("-a.yaml")) == "ltdd-ray run ./-a.yaml"
