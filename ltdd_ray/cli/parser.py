"""The command line of ``ltdd-ray``: commands, arguments and help. Imports nothing heavy."""

import argparse
import os.path
from pathlib import Path
from typing import Any, NoReturn

from ltdd_ray.common.address import is_address
from ltdd_ray.common.hints import nearest

STAGE_COMMANDS = {
    "run": (
        "run all stages; finished ones are not repeated",
        ("experts", "distill", "evaluate", "report"),
    ),
    "experts": ("train the experts and store their trajectories", ("experts",)),
    "distill": ("distil a balanced set from the trajectories", ("distill",)),
    "evaluate": ("train networks on the distilled set and test them", ("evaluate",)),
}
BENCH = {
    "matching": "the matching engine against unrolled matching and against published code",
    "distill": "seconds until a distilled set is four points above its own start",
    "experts": "expert training against a DataLoader loop",
    "evaluate": "evaluation networks trained together against one by one",
    "store": "the trajectory store against torch.save and torch.load",
}
REPORT = (
    "Write the page of one run, RUN/report.html, or one page that compares several runs, "
    "compare.html in the folder that holds them. RUN can also be the folder of a comparison, for "
    "all runs in it."
)
RUN_OR_SET = "folder of a run, its config, or a distilled.safetensors"
COMPARE = (
    "Run every method under one config. Each run is in the folder NAME/METHOD, and methods share "
    "experts. Writes compare.html, compare.md, compare.csv and compare.json to NAME. Finished "
    "stages are not repeated."
)
RECOMMEND = (
    "Run a few methods for a short time on the training images, without those that are held out, "
    "and rank them by accuracy on the latter. Writes NAME/recommend/30min/best.yaml (MINUTESmin), "
    "the config of the whole run of the first method. The same command continues an interrupted "
    "one."
)
SEARCH = (
    "search for the settings with the highest accuracy on held-out training images; "
    "resumes a killed search"
)
LAYOUTS = ("imagefolder", "parquet", "npz", "dd_ranking")
SHELLS = ("bash", "zsh")
STORE = {
    "ls": "list the trajectories",
    "verify": "find damaged, missing and foreign files",
    "gc": "remove debris",
}


class Parser(argparse.ArgumentParser):
    """Names the nearest choice after a wrong one, such as ``run`` for ``rnu``."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += nearest(str(value), map(str, action.choices or ()))
            raise

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse words that this command does not take, here, where its options are known."""
        self._given = list(args or ())
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            hint = nearest(rest[0], self._option_string_actions)
            if not rest[0].startswith("-"):
                hint = "; a name that holds spaces needs quotes"
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """As argparse, and where something is missing also a misspelt option that was given."""
        if message.startswith("the following arguments are required"):
            options = [word.partition("=")[0] for word in self._given if word.startswith("--")]
            hints = (
                nearest(one, self._option_string_actions)
                for one in options
                if not any(known.startswith(one) for known in self._option_string_actions)
            )
            message += next(filter(None, hints), "")
            if "CONFIG" in message and "--set" in options:
                message += "; CONFIG comes before --set, as in `ltdd-ray run demo --set seed=1`"
        super().error(message)


class _Version(argparse.Action):
    """Prints the installed version, which is looked up only here: other commands start faster."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"ltdd-ray {version('ltdd_ray')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser. Parsed options have ``command``, a key of ``COMMANDS``, and ``debug``."""
    parser = Parser(
        prog="ltdd-ray",
        description="Distil long-tailed images into a small balanced set of synthetic images.",
        epilog="Exit codes: 0 success; 1 an error (of `store` 2, as 1 is a damaged store); 2 a "
        "wrong command line; 130 Ctrl-C; 143 SIGTERM.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (about, stages) in STAGE_COMMANDS.items():
        stage = _add(commands, name, about)
        _takes_config(stage, command="run", stages=stages)
        told = stage.add_mutually_exclusive_group()
        told.add_argument("--quiet", action="store_true", help="print nothing but errors")
        told.add_argument(
            "--json",
            action="store_true",
            help="print one JSON object per event; the last has the path of the results",
        )

    report = commands.add_parser(
        "report",
        help="write the HTML page of a run, or one that compares several runs",
        description=REPORT,
    )
    report.add_argument(
        "runs", metavar="RUN", nargs="+", type=_place, help="folder of a run, or its config"
    )
    report.add_argument("--output", metavar="FILE", type=_path, help="the HTML file to write")
    report.set_defaults(command="report")
    _takes_debug(report)

    compare = commands.add_parser(
        "compare", help="run every method and write tables and one page", description=COMPARE
    )
    _takes_config(compare, command="compare")
    compare.add_argument(
        "--methods", metavar="a,b,...", help="methods, in the order of the table (default: all)"
    )

    recommend = commands.add_parser(
        "recommend",
        help="rank a few methods by short runs on held-out images",
        description=RECOMMEND,
    )
    _takes_config(recommend, command="recommend")
    recommend.add_argument(
        "--minutes", type=float, default=30, metavar="M", help="time for all of it (default: 30)"
    )
    recommend.add_argument("--methods", metavar="a,b,...", help="methods to rank")

    init = _add(commands, "init", "write a config for a folder of images")
    init.add_argument(
        "folder",
        metavar="DIR",
        type=_path,
        help="folder with one folder of images per class, or with train and test that have these",
    )
    init.add_argument(
        "--output",
        metavar="FILE",
        type=_path,
        help="the config to write (default: DIR.yaml in the working directory)",
    )
    init.set_defaults(command="init")
    _takes_debug(init)

    export = _add(commands, "export", "write the distilled set for other tools, with soft labels")
    export.add_argument("place", metavar="RUN", type=_place, help=RUN_OR_SET)
    export.add_argument("--to", choices=LAYOUTS, required=True, help="layout of the files")
    export.add_argument(
        "--output",
        metavar="DIR",
        type=_path,
        help="the new folder (default: beside distilled.safetensors)",
    )
    export.set_defaults(command="export")
    _takes_debug(export)

    show = _add(commands, "show", "write the distilled images as one PNG, a row per class")
    show.add_argument("place", metavar="RUN", type=_place, help=RUN_OR_SET)
    show.add_argument(
        "--output",
        metavar="FILE",
        type=_path,
        help="the PNG to write (default: contact_sheet.png beside distilled.safetensors)",
    )
    show.set_defaults(command="show")
    _takes_debug(show)

    _takes_config(_add(commands, "search", SEARCH), command="search")

    push = _add(commands, "push", "publish the distilled set on the Hugging Face Hub")
    push.add_argument("place", metavar="RUN", type=_place, help=RUN_OR_SET)
    push.add_argument("repository", metavar="OWNER/NAME", help="the dataset on the Hub")
    push.add_argument(
        "--license",
        dest="licence",
        metavar="ID",
        required=True,
        help="identifier of the licence, such as cc-by-4.0; the real images' licence decides it",
    )
    push.add_argument("--private", action="store_true", help="only you and those you name read it")
    push.add_argument("--send", action="store_true", help="send; else only write the files")
    push.set_defaults(command="push")
    _takes_debug(push)

    status = _add(commands, "status", "show the progress of a run from the files in its folder")
    status.add_argument(
        "run",
        metavar="RUN",
        type=_place,
        help="folder of a run, its config, or its address (s3://...)",
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(command="status", debug=False)

    store = _add(commands, "store", "list, verify or clean a trajectory store")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    for name, about in STORE.items():
        action = _add(actions, name, about)
        action.add_argument(
            "uri", metavar="URI", help="folder, or a location such as s3://bucket/store"
        )
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(command="store", action=name)
        _takes_debug(action)

    data = _add(commands, "data", "inspect the images of a config")
    info = _add(
        data.add_subparsers(required=True, metavar="ACTION"),
        "info",
        "show images per class, and estimate time, memory and disk of a run on this machine",
    )
    info.add_argument(
        "--no-timing",
        action="store_true",
        help="skip the estimate, which takes a few seconds",
    )
    _takes_config(info, command="data info")

    configs = _add(commands, "configs", "list the shipped configs, or print one")
    configs.add_argument("name", metavar="NAME", nargs="?", help="a shipped config, such as demo")
    configs.set_defaults(command="configs", debug=False)

    bench = _add(commands, "bench", "benchmark this machine against the published methods")
    questions = bench.add_subparsers(required=True, metavar="QUESTION")
    for name, about in BENCH.items():
        question = _add(questions, name, about)
        question.add_argument(
            "--json", metavar="FILE", type=_path, help="also write the results as JSON"
        )
        question.add_argument(
            "--repeats", type=int, default=5, metavar="N", help="repetitions (default: 5)"
        )
        question.set_defaults(command="bench", question=name)
        _takes_debug(question)

    completion = _add(commands, "completion", "print the completion script of a shell")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(command="completion", debug=False)
    return parser


def _path(text: str) -> Path:
    """A path; a leading ``~`` becomes the home folder, which a shell leaves in ``--output=~/x``.

    That of an unknown user stays; what opens the path says so.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib expands ./~x, too


def _place(text: str) -> Path | str:
    """A path, or an address as it is."""
    return text if is_address(text) else _path(text)


def _add(commands: Any, name: str, about: str) -> argparse.ArgumentParser:
    """A command whose description is its help text."""
    return commands.add_parser(name, help=about, description=about[:1].upper() + about[1:] + ".")


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
        help="replace settings of the file",
    )
    parser.set_defaults(**results)
    _takes_debug(parser)


def _takes_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
