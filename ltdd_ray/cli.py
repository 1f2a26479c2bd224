"""``ltdd-ray``: parses before it imports anything heavy, so that ``--help`` answers at once."""

import argparse
import sys
from pathlib import Path

from ltdd_ray.commands import build_parser
from ltdd_ray.errors import UserError
from ltdd_ray.secrets import mask


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 1 after an error that a person can mend (``store``: 2), 2 for a wrong command line, 130 after Ctrl-C."""
    options = build_parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options) or 0
    except Exception as error:
        if options.debug:
            raise
        print(f"error: {mask(str(error)) if isinstance(error, UserError) else _unexpected(error)}", file=sys.stderr)
        return 2 if options.command == "store" else 1  # verify ends with 1 where it could look and found a problem
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from what is finished", file=sys.stderr)
        return 130


def _unexpected(error: Exception) -> str:
    """One line, though the text of an error may hold the whole stack trace of another process."""
    what = " ".join([type(error).__name__, *str(error).strip().splitlines()[-1:]])
    return f"unexpected {what}; this should not happen: the same command with --debug shows where it did"


def _run(options: argparse.Namespace) -> None:
    from ltdd_ray.config_file import load_config

    config = load_config(options.config, options.set)  # a wrong one shall not wait for torch
    from ltdd_ray.output import JsonOutput, TextOutput
    from ltdd_ray.pipeline import run

    run(config, options.stages, JsonOutput() if options.json else TextOutput(quiet=options.quiet))


def _report(options: argparse.Namespace) -> None:
    from ltdd_ray.report.command import report

    print(f"wrote {report(options.runs, options.output)}")


def _export(options: argparse.Namespace) -> None:
    from ltdd_ray.export.export import export

    print("\n".join(export(options.place, options.to, options.output).sentences()))


def _compare(options: argparse.Namespace) -> None:
    from ltdd_ray.config_file import load_config
    from ltdd_ray.methods import METHODS

    config = load_config(options.config, options.set)
    from ltdd_ray.compare.run import compare

    compare(config, options.methods.split(",") if options.methods else METHODS)


def _search(options: argparse.Namespace) -> None:
    from ltdd_ray.config_file import load_config

    config = load_config(options.config, options.set)
    from ltdd_ray.search.run import search

    search(config)


def _status(options: argparse.Namespace) -> None:
    from ltdd_ray.status import show_status

    show_status(options.run, options.json)


def _store(options: argparse.Namespace) -> int:
    from ltdd_ray.store import cli

    return getattr(cli, options.action)(options.uri, options.json)


def _bench(options: argparse.Namespace) -> None:
    from ltdd_ray.bench.cli import bench

    bench(options.question, options.repeats, options.json)


def _data_info(options: argparse.Namespace) -> None:
    from rich.console import Console

    from ltdd_ray.config_file import load_config
    from ltdd_ray.data.info import describe, render
    from ltdd_ray.data.load import load_data
    from ltdd_ray.data.proposal import sensible_ipc

    config, console = load_config(options.config, options.set), Console()
    splits = load_data(config.data, config.seed)
    console.print(render(describe(splits, config.data)))
    ipc = sensible_ipc(splits.train.class_counts.tolist())
    said = [f"images per class that make sense: up to {ipc} (distill.ipc is {config.distill.ipc})"]
    if not options.no_timing:
        from ltdd_ray.estimate import estimate

        said += estimate(config, splits).sentences()
    console.print("\n".join(said), soft_wrap=True, highlight=False)


def _init(options: argparse.Namespace) -> None:
    from ltdd_ray.data.proposal import write_proposal
    from ltdd_ray.data.survey import survey_folder
    from ltdd_ray.hardware import describe_hardware

    output = options.output or Path(f"{options.folder.resolve().name}.yaml")
    hardware = describe_hardware()
    write_proposal(survey_folder(options.folder), output, hardware["cores"], len(hardware["gpus"]))
    print(f"wrote {output}; `ltdd-ray data info {output}` says what it will take here, `ltdd-ray run {output}` does it")


def _completion(options: argparse.Namespace) -> None:
    from ltdd_ray.completion import completion

    print(completion(options.shell))


_COMMANDS = {
    "init": _init,
    "run": _run,
    "compare": _compare,
    "search": _search,
    "status": _status,
    "report": _report,
    "export": _export,
    "store": _store,
    "bench": _bench,
    "data info": _data_info,
    "completion": _completion,
}
