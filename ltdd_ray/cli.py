"""``ltdd-ray``: parses before it imports anything heavy, so that ``--help`` answers at once."""

import argparse
import sys

from ltdd_ray.errors import UserError

STAGES = {
    "run": ("all stages; what is finished is not repeated", ("experts", "distill", "evaluate", "report")),
    "experts": ("train the experts and store their trajectories", ("experts",)),
    "distill": ("distil a balanced set from the trajectories", ("distill",)),
    "evaluate": ("train networks on the distilled set and measure them", ("evaluate",)),
    "report": ("write the HTML page of a run", ("report",)),
}
BENCH = {
    "matching": "the matching engine against unrolled and two-pass matching as published",
    "experts": "expert training against a DataLoader loop",
    "evaluate": "evaluation networks against training them one by one",
    "store": "the trajectory store against torch.save and torch.load",
}
STORE = {"ls": "list the trajectories", "verify": "find damaged, missing and foreign files", "gc": "remove debris"}


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 after an error that a person can mend (``store``: 2), 2 for a wrong command line, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except UserError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from what is finished", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ltdd-ray", description="Distils long-tailed images into a small balanced set.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (about, stages) in STAGES.items():
        _takes_config(verbs.add_parser(name, help=about, description=about), lambda options, stages=stages: _run(options, stages))
    store = verbs.add_parser("store", help="look after a trajectory store").add_subparsers(required=True, metavar="ACTION")
    for name, about in STORE.items():
        action = store.add_parser(name, help=about, description=about)
        action.add_argument("uri", metavar="URI", help="folder, or a location such as s3://bucket/store")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(command=lambda options, name=name: _store(options, name), debug=False)
    data = verbs.add_parser("data", help="look at a config's images").add_subparsers(required=True, metavar="ACTION")
    _takes_config(data.add_parser("info", help="images per class and group"), _data_info)
    bench = verbs.add_parser("bench", help="measure this machine against the published forms")
    questions = bench.add_subparsers(required=True, metavar="QUESTION")
    for name, about in BENCH.items():
        question = questions.add_parser(name, help=about, description=about)
        question.add_argument("--json", metavar="FILE", help="also write the results as JSON")
        question.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds, side by side (default 5)")
        question.set_defaults(command=lambda options, name=name: _bench(options, name), debug=False)
    return parser


def _takes_config(parser: argparse.ArgumentParser, command) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file, see configs/")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", help="override settings of the file")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    parser.set_defaults(command=command)


def _run(options: argparse.Namespace, stages: tuple[str, ...]) -> None:
    from ltdd_ray.config_file import load_config

    config = load_config(options.config, options.set)  # a wrong one shall not wait for torch
    from ltdd_ray.pipeline import run

    run(config, stages)


def _store(options: argparse.Namespace, action: str) -> int:
    from ltdd_ray.store import cli

    try:
        return getattr(cli, action)(options.uri, options.json)
    except UserError as error:  # not 1, which says that verify could look and found a problem
        print(f"error: {error}", file=sys.stderr)
        return 2


def _bench(options: argparse.Namespace, question: str) -> None:
    from ltdd_ray.bench.cli import bench

    bench(question, options.repeats, options.json)


def _data_info(options: argparse.Namespace) -> None:
    from rich.console import Console

    from ltdd_ray.config_file import load_config
    from ltdd_ray.data.info import describe, render
    from ltdd_ray.data.load import load_data

    config = load_config(options.config, options.set)
    Console().print(render(describe(load_data(config.data, config.seed), config.data)))
