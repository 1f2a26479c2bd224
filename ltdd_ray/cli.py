"""``ltdd-ray``: parses before it imports anything heavy, so that ``--help`` answers at once."""

import argparse
import sys

from ltdd_ray.commands import build_parser
from ltdd_ray.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 after an error that a person can mend (``store``: 2), 2 for a wrong command line, 130 after Ctrl-C."""
    options = build_parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options) or 0
    except UserError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from what is finished", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> None:
    from ltdd_ray.config_file import load_config

    config = load_config(options.config, options.set)  # a wrong one shall not wait for torch
    from ltdd_ray.pipeline import run

    run(config, options.stages)


def _compare(options: argparse.Namespace) -> None:
    from ltdd_ray.config_file import load_config
    from ltdd_ray.methods import METHODS

    config = load_config(options.config, options.set)
    from ltdd_ray.compare.run import compare

    compare(config, options.methods.split(",") if options.methods else METHODS)


def _store(options: argparse.Namespace) -> int:
    from ltdd_ray.store import cli

    try:
        return getattr(cli, options.action)(options.uri, options.json)
    except UserError as error:  # not 1, which says that verify could look and found a problem
        print(f"error: {error}", file=sys.stderr)
        return 2


def _bench(options: argparse.Namespace) -> None:
    from ltdd_ray.bench.cli import bench

    bench(options.question, options.repeats, options.json)


def _data_info(options: argparse.Namespace) -> None:
    from rich.console import Console

    from ltdd_ray.config_file import load_config
    from ltdd_ray.data.info import describe, render
    from ltdd_ray.data.load import load_data

    config = load_config(options.config, options.set)
    Console().print(render(describe(load_data(config.data, config.seed), config.data)))


_COMMANDS = {"run": _run, "compare": _compare, "store": _store, "bench": _bench, "data info": _data_info}
