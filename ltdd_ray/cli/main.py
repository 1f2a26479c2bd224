"""``ltdd-ray``: the entry point. It imports nothing heavy, so ``--help`` answers at once."""

import argparse
import errno
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from ltdd_ray.cli.commands import COMMANDS
from ltdd_ray.cli.parser import build_parser
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask

LONGEST = 2000  # signs of an error that are shown
_REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again; finished work is kept",
    errno.EDQUOT: "free some space and run the same command again; finished work is kept",
    errno.EROFS: "choose another place with --set output=...",
    errno.EACCES: "check the permissions, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    errno.ENFILE: "close other programs, as all of the system's files are open",
    errno.ENOMEM: "free some memory, or choose smaller data or batches",
    errno.EIO: "check the disk",
    errno.ELOOP: "remove the circle of links",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success. 1: an error; ``store`` uses 2, because 1 means that ``verify`` found a problem.
    2: a wrong command line. 130: stopped by Ctrl-C. 143: stopped by SIGTERM. 141: the reader of the
    output, such as `head`, has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a sign of the table
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(build_parser().parse_args(arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # a closed pipe or a full disk shows here, not as Python ends
    except BrokenPipeError:
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_output()
        print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    terminated = threading.Event()
    try:
        with _sigterm_as_interrupt(terminated):
            return COMMANDS[options.command](options) or 0
    except Exception as error:
        if options.debug or (isinstance(error, BrokenPipeError) and _is_closed(sys.stdout)):
            raise
        print(f"error: {_cut(mask(_sentence(error)))}", file=sys.stderr)
        return 2 if options.command == "store" else 1
    except KeyboardInterrupt:
        word, number = (
            ("terminated", signal.SIGTERM)
            if terminated.is_set()
            else ("interrupted", signal.SIGINT)
        )
        print(f"{word}; the same command resumes from what is finished", file=sys.stderr)
        return 128 + number


def _is_closed(stream: TextIO) -> bool:
    """Whether the reader of ``stream`` has gone."""
    asked = select.poll()
    try:
        asked.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError, AttributeError):  # no descriptor, or none at all
        return False
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in asked.poll(0))


def _drop_output() -> None:
    """Let what is left of the output go nowhere, since Python would complain as it ends."""
    with suppress(OSError, ValueError):  # ValueError: a stream without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and not _is_ours(error.name):
        return (
            f"{sys.executable} has no module `{error.name}`; run the command with the Python of "
            "the environment in which ltdd-ray is installed"
        )
    if isinstance(error, MemoryError):
        return "not enough memory; free some, or choose smaller data or batches"
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{place}{os.strerror(error.errno).lower()}; {_REMEDIES[error.errno]}"
    if isinstance(error, OSError) and error.errno and isinstance(error.filename, str | bytes):
        place = os.fsdecode(error.filename)
        return f"{place}: {os.strerror(error.errno).lower()}; check this path"
    # The text of an error can hold the stack trace of another process.
    what = " ".join([type(error).__name__, *str(error).strip().splitlines()[-1:]])
    return f"unexpected {_cut(what)}; this is a bug: run the same command with --debug to see where"


def _is_ours(module: str | None) -> bool:
    return module is None or module.partition(".")[0] == "ltdd_ray"


def _cut(text: str) -> str:
    """``text``, or the ends of a very long one. Control characters are shown as escapes."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
