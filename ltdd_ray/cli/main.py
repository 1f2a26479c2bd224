"""``ltdd-ray``: parses before it imports anything heavy, so that ``--help`` answers at once."""

import sys

from ltdd_ray.cli.commands import VERBS
from ltdd_ray.cli.parser import build_parser
from ltdd_ray.common.errors import UserError
from ltdd_ray.common.redact import mask


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 after an error that a person can mend (``store``: 2), 2 for a wrong command line, 130 after Ctrl-C."""
    options = build_parser().parse_args(arguments)
    try:
        return VERBS[options.command](options) or 0
    except Exception as error:
        if options.debug:
            raise
        print(
            f"error: {mask(str(error)) if isinstance(error, UserError) else _unexpected(error)}",
            file=sys.stderr,
        )
        return (
            2 if options.command == "store" else 1
        )  # verify ends with 1 where it could look and found a problem
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from what is finished", file=sys.stderr)
        return 130


def _unexpected(error: Exception) -> str:
    """One line, though the text of an error may hold the whole stack trace of another process."""
    what = " ".join([type(error).__name__, *str(error).strip().splitlines()[-1:]])
    return f"unexpected {what}; this should not happen: the same command with --debug shows where it did"
