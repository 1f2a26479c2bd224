"""``ltdd-ray completion``: the script for shell completion of commands, options and files."""

from argparse import Action, ArgumentParser
from collections.abc import Iterator

import shtab

from ltdd_ray.cli.parser import build_parser

ON_DISK = ("CONFIG", "RUN", "DIR", "FILE", "URI")


def completion(shell: str) -> str:
    """The script for ``shell``, one of :data:`ltdd_ray.cli.parser.SHELLS`."""
    parser = build_parser()
    for action in _arguments(parser):
        if action.metavar in ON_DISK:
            action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]
    return shtab.complete(parser, shell)


def _arguments(parser: ArgumentParser) -> Iterator[Action]:
    """The arguments of ``parser`` and of all its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _arguments(command)
