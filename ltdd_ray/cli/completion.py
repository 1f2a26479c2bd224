"""``ltdd-ray completion``: the script with which a shell completes verbs, options and files."""

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
            action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue] - where shtab looks for it
    return shtab.complete(parser, shell)


def _arguments(parser: ArgumentParser) -> Iterator[Action]:
    """Those of ``parser`` and of all its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for verb in action.choices.values():
                yield from _arguments(verb)
