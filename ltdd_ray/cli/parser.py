"""What ``ltdd-ray`` understands: its verbs, their arguments and help. Imports nothing heavy."""

import argparse
from pathlib import Path
from typing import Any

STAGES = {
    "run": (
        "all stages; what is finished is not repeated",
        ("experts", "distill", "evaluate", "report"),
    ),
    "experts": ("train the experts and store their trajectories", ("experts",)),
    "distill": ("distil a balanced set from the trajectories", ("distill",)),
    "evaluate": ("train networks on the distilled set and measure them", ("evaluate",)),
}
BENCH = {
    "matching": "the matching engine against unrolled and two-pass matching as published",
    "experts": "expert training against a DataLoader loop",
    "evaluate": "evaluation networks against training them one by one",
    "store": "the trajectory store against torch.save and torch.load",
}
REPORT = (
    "Writes the page of one run, RUN/report.html, or one page that compares several, compare.html in the folder that holds them. "
    "The folder of a comparison stands for all runs in it, a config for its run."
)
COMPARE = (
    "Runs every method under one config, in NAME/METHOD each, with experts shared between them, and writes compare.html, "
    "compare.md, compare.csv and compare.json into NAME. What is finished is not repeated."
)
LAYOUTS = ("imagefolder", "parquet", "npz")
SHELLS = ("bash", "zsh")
STORE = {
    "ls": "list the trajectories",
    "verify": "find damaged, missing and foreign files",
    "gc": "remove debris",
}


def build_parser() -> argparse.ArgumentParser:
    """Its result names a ``command``, has ``debug``, and beside them what that command takes."""
    parser = argparse.ArgumentParser(
        prog="ltdd-ray", description="Distils long-tailed images into a small balanced set."
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (about, stages) in STAGES.items():
        stage = verbs.add_parser(name, help=about, description=about)
        _takes_config(stage, command="run", stages=stages)
        told = stage.add_mutually_exclusive_group()
        told.add_argument("--quiet", action="store_true", help="say nothing but errors")
        told.add_argument(
            "--json",
            action="store_true",
            help="print one JSON object per event, the last with the path of the result",
        )
    report = verbs.add_parser(
        "report",
        help="write the HTML page of a run, or one that compares several",
        description=REPORT,
    )
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run")
    report.add_argument("--output", metavar="FILE", type=Path, help="where to write the page")
    report.set_defaults(command="report")
    _takes_debug(report)
    compare = verbs.add_parser(
        "compare", help="run every method and write one table and one page", description=COMPARE
    )
    _takes_config(compare, command="compare")
    compare.add_argument(
        "--methods", metavar="a,b,...", help="which ones, in the order of the table (default: all)"
    )
    init = verbs.add_parser("init", help="write a config for a folder of images")
    init.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        help="folder with a folder of images per class, or with train and test in it",
    )
    init.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where to write the config (default: DIR's name .yaml, here)",
    )
    init.set_defaults(command="init")
    _takes_debug(init)
    export = verbs.add_parser(
        "export", help="the distilled set for other tools: 8-bit images and soft labels"
    )
    export.add_argument(
        "place", metavar="RUN", type=Path, help="folder of a run, or a distilled.safetensors"
    )
    export.add_argument("--to", choices=LAYOUTS, required=True, help="layout of the export")
    export.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="new folder to write (default: beside distilled.safetensors)",
    )
    export.set_defaults(command="export")
    _takes_debug(export)
    about = "find the weights that do best on training images held out for it; a search that was killed goes on"
    _takes_config(verbs.add_parser("search", help=about, description=about), command="search")
    status = verbs.add_parser(
        "status",
        help="how far a run is",
        description="How far a run is, from the files in its folder.",
    )
    status.add_argument("run", metavar="RUN", help="the run's folder")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(command="status", debug=False)
    store = verbs.add_parser("store", help="look after a trajectory store").add_subparsers(
        required=True, metavar="ACTION"
    )
    for name, about in STORE.items():
        action = store.add_parser(name, help=about, description=about)
        action.add_argument(
            "uri", metavar="URI", help="folder, or a location such as s3://bucket/store"
        )
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(command="store", action=name)
        _takes_debug(action)
    configs = verbs.add_parser("configs", help="list the shipped configs, or print one")
    configs.add_argument("name", metavar="NAME", nargs="?", help="one of them, such as demo")
    configs.set_defaults(command="configs", debug=False)
    data = verbs.add_parser("data", help="look at a config's images").add_subparsers(
        required=True, metavar="ACTION"
    )
    info = data.add_parser(
        "info", help="images per class and group, and what a run will take on this machine"
    )
    info.add_argument(
        "--no-timing",
        action="store_true",
        help="leave out time and memory, which take some seconds to find out",
    )
    _takes_config(info, command="data info")
    bench = verbs.add_parser("bench", help="measure this machine against the published forms")
    questions = bench.add_subparsers(required=True, metavar="QUESTION")
    for name, about in BENCH.items():
        question = questions.add_parser(name, help=about, description=about)
        question.add_argument("--json", metavar="FILE", help="also write the results as JSON")
        question.add_argument(
            "--repeats", type=int, default=5, metavar="N", help="rounds, side by side (default 5)"
        )
        question.set_defaults(command="bench", question=name)
        _takes_debug(question)
    completion = verbs.add_parser(
        "completion", help="print the script that completes ltdd-ray's words in a shell"
    )
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(command="completion", debug=False)
    return parser


def _takes_config(parser: argparse.ArgumentParser, **results: Any) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", help="YAML file, or the name of a shipped config"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="a.b=c",
        help="override settings of the file",
    )
    parser.set_defaults(**results)
    _takes_debug(parser)


def _takes_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
