"""What ``ltdd-ray`` understands: its verbs, their arguments and help. Imports nothing heavy."""

import argparse
from typing import Any

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
COMPARE = (
    "Runs every method under one config, in NAME/METHOD each, with experts shared between them, and writes compare.md, "
    "compare.csv and compare.json into NAME. What is finished is not repeated."
)
STORE = {"ls": "list the trajectories", "verify": "find damaged, missing and foreign files", "gc": "remove debris"}


def build_parser() -> argparse.ArgumentParser:
    """Its result names a ``command``, has ``debug``, and beside them what that command takes."""
    parser = argparse.ArgumentParser(prog="ltdd-ray", description="Distils long-tailed images into a small balanced set.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (about, stages) in STAGES.items():
        _takes_config(verbs.add_parser(name, help=about, description=about), command="run", stages=stages)
    compare = verbs.add_parser("compare", help="run every method and write one table", description=COMPARE)
    _takes_config(compare, command="compare")
    compare.add_argument("--methods", metavar="a,b,...", help="which ones, in the order of the table (default: all)")
    store = verbs.add_parser("store", help="look after a trajectory store").add_subparsers(required=True, metavar="ACTION")
    for name, about in STORE.items():
        action = store.add_parser(name, help=about, description=about)
        action.add_argument("uri", metavar="URI", help="folder, or a location such as s3://bucket/store")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(command="store", action=name, debug=False)
    data = verbs.add_parser("data", help="look at a config's images").add_subparsers(required=True, metavar="ACTION")
    _takes_config(data.add_parser("info", help="images per class and group"), command="data info")
    bench = verbs.add_parser("bench", help="measure this machine against the published forms")
    questions = bench.add_subparsers(required=True, metavar="QUESTION")
    for name, about in BENCH.items():
        question = questions.add_parser(name, help=about, description=about)
        question.add_argument("--json", metavar="FILE", help="also write the results as JSON")
        question.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds, side by side (default 5)")
        question.set_defaults(command="bench", question=name, debug=False)
    return parser


def _takes_config(parser: argparse.ArgumentParser, **results: Any) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file, see configs/")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="a.b=c", help="override settings of the file")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    parser.set_defaults(**results)
