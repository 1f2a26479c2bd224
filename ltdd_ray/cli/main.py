"""``ltdd-ray``: the entry point. It imports nothing heavy, so ``--help`` answers at once."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ltdd_ray.cli.commands import COMMANDS
from ltdd_ray.cli.parser import build_parser
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success. 1: an error; ``store`` uses 2, because 1 means that ``verify`` found a problem.
    2: a wrong command line. 130: stopped by Ctrl-C. 143: stopped by SIGTERM.
    """
    options = build_parser().parse_args(arguments)
    terminated = threading.Event()
    try:
        with _sigterm_as_interrupt(terminated):
            return COMMANDS[options.command](options) or 0
    except Exception as error:
        if options.debug:
            raise
        message = mask(str(error)) if isinstance(error, UserError) else _unexpected(error)
        print(f"error: {message}", file=sys.stderr)
        return 2 if options.command == "store" else 1
    except KeyboardInterrupt:
        word, number = (
            ("terminated", signal.SIGTERM)
            if terminated.is_set()
            else ("interrupted", signal.SIGINT)
        )
        print(f"{word}; the same command resumes from what is finished", file=sys.stderr)
        return 128 + number


@contextmanager
def _sigterm_as_interrupt(terminated: threading.Event) -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, and set ``terminated``.

    Ray passes a ``KeyboardInterrupt`` through its calls as it is, but no other exception of a
    signal handler.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def interrupt(*_: object) -> None:
        terminated.set()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _unexpected(error: Exception) -> str:
    """One line. The text of an error can hold the stack trace of another process."""
    what = " ".join([type(error).__name__, *str(error).strip().splitlines()[-1:]])
    return f"unexpected {what}; this is a bug: run the same command with --debug to see where"
