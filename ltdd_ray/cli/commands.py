"""The commands of ``ltdd-ray``. Each imports what it needs when it is called."""

import argparse
from pathlib import Path

from ltdd_ray.common.errors import UserError


def _run(options: argparse.Namespace) -> None:
    from ltdd_ray.config.loading import load_config

    config = load_config(options.config, options.set)  # fails before torch is imported
    from ltdd_ray.runs.output import JsonOutput, TextOutput
    from ltdd_ray.workflows.pipeline import run

    run(config, options.stages, JsonOutput() if options.json else TextOutput(quiet=options.quiet))


def _report(options: argparse.Namespace) -> None:
    from ltdd_ray.workflows.report_runs import report_runs

    print(f"wrote {report_runs(options.runs, options.output)}")


def _export(options: argparse.Namespace) -> None:
    from ltdd_ray.export.export import export

    place = _on_this_machine(options.place, options.output)
    print("\n".join(export(place, options.to, options.output).sentences()))


def _push(options: argparse.Namespace) -> None:
    from ltdd_ray.export.push import push
    from ltdd_ray.runs.place import place_of_run
    from ltdd_ray.runs.remote import local_copy

    place = local_copy(place_of_run(options.place))
    pushed = push(place, options.repository, options.licence, options.private, options.send)
    print("\n".join(pushed.sentences()))


def _show(options: argparse.Namespace) -> None:
    from ltdd_ray.export.show import print_sheet, show

    place = _on_this_machine(options.place, options.output)
    print_sheet(show(place, options.output))


def _on_this_machine(place: Path | str, output: Path | None) -> Path:
    """Where the run is, or a copy of what is at its address. Nobody would look beside a copy."""
    from ltdd_ray.common.address import is_address, shown
    from ltdd_ray.runs.place import place_of_run
    from ltdd_ray.runs.remote import local_copy

    place = place_of_run(place)
    if is_address(place) and output is None:
        raise UserError(f"{shown(str(place))}: an address; name what to write with --output")
    return local_copy(place)


def _compare(options: argparse.Namespace) -> None:
    from ltdd_ray.config.loading import load_base_config
    from ltdd_ray.methods import known_methods

    config = load_base_config(options.config, options.set)
    from ltdd_ray.workflows.compare.run_methods import compare

    compare(config, known_methods() if options.methods is None else _words(options.methods))


def _words(text: str) -> list[str]:
    """The words of a list separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _recommend(options: argparse.Namespace) -> None:
    from ltdd_ray.config.loading import load_base_config

    config = load_base_config(options.config, options.set)
    from ltdd_ray.workflows.compare.recommend import recommend

    methods = None if options.methods is None else _words(options.methods)
    recommend(config, options.minutes, methods)


def _search(options: argparse.Namespace) -> None:
    from ltdd_ray.config.loading import load_config

    config = load_config(options.config, options.set)
    from ltdd_ray.workflows.search.run_search import search

    search(config)


def _status(options: argparse.Namespace) -> None:
    from ltdd_ray.runs.place import place_of_run
    from ltdd_ray.runs.status import show_status

    show_status(place_of_run(options.run), options.json)


def _store(options: argparse.Namespace) -> int:
    from ltdd_ray.cli import store

    return getattr(store, options.action)(options.uri, options.json)


def _bench(options: argparse.Namespace) -> None:
    from ltdd_ray.bench.questions import run_question

    run_question(options.question, options.repeats, options.json)


def _data_info(options: argparse.Namespace) -> None:
    from ltdd_ray.common.terminal import PlainConsole
    from ltdd_ray.config.loading import load_config
    from ltdd_ray.workflows.data_info import data_info

    config = load_config(options.config, options.set)
    data_info(config, timing=not options.no_timing).show(PlainConsole())


def _init(options: argparse.Namespace) -> None:
    from ltdd_ray.common.shell import command
    from ltdd_ray.data.proposal import propose

    written = propose(options.folder, options.output)
    print(
        f"{written}; next: `{command('data', 'info', written.file)}` to estimate time and memory, "
        f"`{command('run', written.file)}` to run it"
    )


def _configs(options: argparse.Namespace) -> None:
    from ltdd_ray.config.shipped import find_shipped, shipped_configs, summary

    if options.name:
        print(find_shipped(options.name).read_text(), end="")
        return
    configs = shipped_configs()
    width = max(map(len, configs))
    print("\n".join(f"{name:<{width}}  {summary(file)}" for name, file in configs.items()))


def _completion(options: argparse.Namespace) -> None:
    from ltdd_ray.cli.completion import completion

    print(completion(options.shell))


COMMANDS = {
    "init": _init,
    "run": _run,
    "compare": _compare,
    "recommend": _recommend,
    "search": _search,
    "status": _status,
    "report": _report,
    "export": _export,
    "push": _push,
    "show": _show,
    "store": _store,
    "bench": _bench,
    "data info": _data_info,
    "configs": _configs,
    "completion": _completion,
}
