"""What is shown in a terminal: names come from files and folders, and are text, never commands."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text


def printable(text: str) -> str:
    """``text`` with control characters and lone surrogates as escapes, such as ``\\x1b``.

    Line breaks and tabs stay.
    """
    return "".join(
        sign if sign in "\n\t" or not _controls(sign) else repr(sign)[1:-1] for sign in text
    )


def _controls(sign: str) -> bool:
    code = ord(sign)
    return code < 32 or 127 <= code < 160 or 0xD800 <= code < 0xE000


def plain_text(*shown: RenderableType) -> str:
    """What is shown, each on lines of its own, as text without colours, 120 columns wide."""
    # In a notebook rich would add bold signs as escapes, and show the text by itself, too.
    console = PlainConsole(width=120, no_color=True, force_jupyter=False, force_terminal=False)
    with console.capture() as capture:
        for one in shown:
            console.print(one)
    return capture.get().rstrip()


class PlainConsole(Console):
    """A console that takes all strings as they are: ``[bold]`` and ``:smile:`` have no meaning."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Leave the answer to a reader that has gone to the entry point: rich would exit with 1."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)
