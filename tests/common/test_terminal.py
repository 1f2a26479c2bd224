import io

import pytest
from rich.table import Table

from ltdd_ray.common.terminal import PlainConsole, plain_text, printable


def test_names_are_text_and_never_commands() -> None:
    console = PlainConsole(file=io.StringIO(), width=100, force_terminal=False)
    names = ("[bold]a", "[/x]", ":smile:", "[link=http://h]b[/link]")
    table = Table(*names, title="[/title]", caption="[/caption]")
    table.add_row(*names)
    console.print(table)
    console.print("[/x] said \x1b[31mred\x07", soft_wrap=True, highlight=False)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(shown.count(name) >= 2 for name in names)
    assert "[/title]" in shown and "[/caption]" in shown
    assert r"[/x] said \x1b[31mred\x07" in shown and "\x1b" not in shown


def test_control_characters_and_surrogates_are_escaped() -> None:
    assert printable("a\tb\nc é 猫") == "a\tb\nc é 猫"
    assert printable("\x1b]0;t\x07 \x9b \udcff \x7f") == r"\x1b]0;t\x07 \x9b \udcff \x7f"


def test_text_has_no_escapes_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """There rich takes the output for a terminal, and would show an empty line of its own."""
    shown: list[object] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *what: shown.append(what))
    table = Table("class", title="photos")
    assert plain_text(table, "5 of 10").splitlines()[-1] == "5 of 10"
    assert "\x1b" not in plain_text(table, "5 of 10") and not shown
