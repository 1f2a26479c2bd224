"""The results of a search: best.yaml, a table and a plot of all trials, and TensorBoard HParams."""

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.table import Table

from ltdd_ray.common.errors import UserError
from ltdd_ray.common.files import write_atomic
from ltdd_ray.config import Dimension, RunConfig, SearchConfig
from ltdd_ray.config.loading import dump_config
from ltdd_ray.workflows.search.space import apply, own_values
from ltdd_ray.workflows.search.trial import TrialFolder, TrialOutcome

COLOURS = {"finished": "#1b6ca8", "stopped": "#9aa5b1", "diverged": "#c0392b"}
EndedTrial = tuple[TrialFolder, TrialOutcome]


def write_results(config: RunConfig, trials: Sequence[TrialFolder], folder: Path) -> Table:
    """Write best.yaml, trials.csv, trials.png and ``tensorboard/``; returns a table, best first.

    Stopped trials rank behind finished ones, because scores after different numbers of updates
    cannot be compared. The config's own values stay the best ones unless another trial is ahead by
    more than its standard error, or theirs diverged or was stopped. Raises ``UserError`` where
    every trial diverged.
    """
    ended = [(trial, outcome) for trial in trials if (outcome := trial.outcome)]
    ended.sort(
        key=lambda one: (-one[1].update, -one[1].score) if one[1].status != "diverged" else (1, 0.0)
    )
    if ended[0][1].status == "diverged":
        raise UserError(
            "every trial of the search diverged; narrow search.space so that their values are "
            "outside, or lower distill.lr_image"
        )
    best, why = _choose(config, ended)
    write_atomic(folder / "best.yaml", _best(config, best, why))
    write_atomic(folder / "trials.csv", _csv(config.search, ended))
    write_atomic(folder / "trials.png", _plot(config.search, ended))
    _tensorboard(ended, folder / "tensorboard")
    return _table(config, ended, f"best.yaml: trial {best[0].number}{', ' + why if why else ''}")


def _choose(config: RunConfig, ended: Sequence[EndedTrial]) -> tuple[EndedTrial, str]:
    """The recommended one of the trials, which are sorted best first, and the reason."""
    first, reached = ended[0]
    values = own_values(config)
    if values is None:
        return ended[0], "not compared with the config's own values, which are outside search.space"
    own = next((one for one in ended if one[0].values == values), None)
    if own is None:
        return (
            ended[0],
            "not compared with the config's own values, which were not tried; raise search.trials",
        )
    if own[1].status == "diverged":
        return ended[0], "as the config's own values diverged"
    if own[0] is first:
        return own, "the config's own values"
    if own[1].status == "stopped":  # by ASHA, before the config had these values
        return ended[0], (
            "not compared with the config's own values, whose trial was stopped after "
            f"{own[1].update} updates"
        )
    ahead = reached.score - own[1].score
    if ahead > reached.standard_error:
        return ended[0], f"{100 * ahead:.1f} points ahead of the config's own values"
    return own, (
        f"the config's own values: trial {first.number} is {100 * ahead:.1f} points ahead, within "
        f"its standard error of {100 * reached.standard_error:.1f}; "
        "raise search.validation_fraction to tell them apart"
    )


def _best(config: RunConfig, best: EndedTrial, why: str) -> str:
    """The text of best.yaml: the config with the trial's values and another name."""
    trial, outcome = best
    found = apply(config, trial.values).model_copy(update={"name": f"{config.name}-best"})
    values = yaml.safe_dump(trial.values, default_flow_style=True, width=10_000).strip()
    reason = f"# {why[:1].upper()}{why[1:]}.\n" if why else ""
    return (
        f"# Trial {trial.number} of the search of {config.name}: {_percent(outcome)} % balanced "
        f"accuracy after {outcome.update} updates,\n# estimated on held-out training images. "
        f"Values: {values}\n{reason}{dump_config(found)}"
    )


def _csv(search: SearchConfig, ended: Sequence[EndedTrial]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "score", "standard_error", "updates", "status", *search.space])
    for trial, outcome in ended:
        values = (trial.values[key] for key in search.space)
        numbers = f"{outcome.score:.4f}", f"{outcome.standard_error:.4f}", outcome.update
        writer.writerow([trial.number, *numbers, outcome.status, *values])
    return text.getvalue()


def _table(config: RunConfig, ended: Sequence[EndedTrial], caption: str) -> Table:
    table = Table(
        caption=caption,
        title=f"{config.name}: balanced accuracy in % on held-out training images",
    )
    for column in ("trial", "score", "updates", "", *map(_short, config.search.space)):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")
    for trial, outcome in ended:
        values = (str(trial.values[key]) for key in config.search.space)
        table.add_row(
            str(trial.number), _percent(outcome), str(outcome.update), outcome.status, *values
        )
    return table


def _plot(search: SearchConfig, ended: Sequence[EndedTrial]) -> bytes:
    """A PNG: one panel per setting, with the score of each trial, coloured by its status."""
    from matplotlib.figure import Figure  # importing takes a second and is needed only here

    figure = Figure(figsize=(1 + 3 * len(search.space), 3.2), layout="constrained")
    axes = figure.subplots(1, len(search.space), sharey=True, squeeze=False)[0]
    for axis, (key, dimension) in zip(axes, search.space.items()):
        for status, colour in COLOURS.items():
            here = [(trial, outcome) for trial, outcome in ended if outcome.status == status]
            x = [_position(dimension, trial.values[key]) for trial, _ in here]
            y = [100 * outcome.score for _, outcome in here]
            axis.scatter(x, y, color=colour, label=status if here else None)
        axis.set_xlabel(_short(key))
        if dimension.choices is not None:
            axis.set_xticks(range(len(dimension.choices)), map(str, dimension.choices))
            continue
        axis.set_xscale("log" if dimension.log else "linear")
        axis.set_xlim(dimension.low, dimension.high)
    axes[0].set_ylabel("balanced accuracy in %")
    axes[-1].legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    return drawn.getvalue()


def _percent(outcome: TrialOutcome) -> str:
    """The score with its standard error."""
    return f"{100 * outcome.score:.1f} ± {100 * outcome.standard_error:.1f}"


def _position(dimension: Dimension, value: float) -> float:
    return value if dimension.choices is None else dimension.choices.index(value)


def _tensorboard(ended: Sequence[EndedTrial], folder: Path) -> None:
    """One TensorBoard run per trial: values and score for HParams, and the score over updates."""
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import SummaryWriter

    # TensorBoard would show files of earlier sessions too, those of trials left out among them.
    shutil.rmtree(folder, ignore_errors=True)
    for trial, outcome in ended:
        with SummaryWriter(str(folder / f"trial-{trial.number:03d}")) as writer:
            values = {
                key: value if isinstance(value, int | float | bool) else str(value)
                for key, value in trial.values.items()
            }
            for summary in hparams(values, {"score": outcome.score}):
                writer._get_file_writer().add_summary(summary)
            for report in trial.reports:
                writer.add_scalar("score", report.score, report.update)


def _short(key: str) -> str:
    return key.rpartition(".")[2]
