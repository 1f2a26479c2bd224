"""What a report cannot be made from, or cannot be written to, is one sentence."""

import hashlib
import json

import pytest
from reportkit import results

from ltdd_ray.common.errors import UserError
from ltdd_ray.report.comparison import write_comparison
from ltdd_ray.report.page import write_report


def test_without_results_the_error_names_the_stage_to_run(run_folder):
    (run_folder / "results.json").unlink()
    with pytest.raises(UserError, match=r"run `ltdd-ray evaluate .*config.yaml` first"):
        write_report(run_folder)
    (run_folder / "distilled" / "distilled.safetensors").unlink()
    with pytest.raises(UserError, match=r"run `ltdd-ray run .*config.yaml` first"):
        write_report(run_folder)
    assert not (run_folder / "report.html").exists()


def test_unusable_results_are_named(run_folder):
    with pytest.raises(UserError, match="there is no such folder"):
        write_report(run_folder / "other")
    (run_folder / "results.json").write_text('{"name": ')
    with pytest.raises(UserError, match=r"results.json: not readable as JSON"):
        write_report(run_folder)
    (run_folder / "results.json").write_text('{"name": "trial"}')
    with pytest.raises(UserError, match="`dataset` is missing"):
        write_report(run_folder)


def test_results_of_another_set_are_refused(run_folder):
    file = run_folder / "distilled" / "distilled.safetensors"
    measured = results() | {"distilled_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (run_folder / "results.json").write_text(json.dumps(measured))
    write_report(run_folder)
    file.write_bytes((run_folder / "distilled" / "initial.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"another set than .*; run `ltdd-ray evaluate .* first"):
        write_report(run_folder)


def test_a_page_that_cannot_be_written_is_named(run_folder):
    with pytest.raises(UserError, match=r"page.html: not writable: .* --output"):
        write_report(run_folder, run_folder / "nowhere" / "page.html")


def test_a_config_that_is_not_a_mapping_is_named(run_folder):
    (run_folder / "config.yaml").write_text("- a list")
    with pytest.raises(UserError, match=r"config.yaml: not readable as a config"):
        write_report(run_folder)


@pytest.mark.parametrize(
    "change",
    [
        {"sets": {}},
        {"sets": {"distilled": {}}},
        {"class_counts": []},
        {"class_counts": "many"},
        {"set": "none"},
        {"model": 5},
        {"class_names": None},
    ],
)
def test_results_that_lack_something_are_one_sentence(run_folder, change):
    """A comparison shows less, so it may do without what the page of a run needs."""
    (run_folder / "results.json").write_text(json.dumps(results() | change))
    for write in (
        lambda: write_report(run_folder),
        lambda: write_comparison([run_folder], run_folder / "compare.html"),
    ):
        try:
            write()
        except UserError as error:
            assert "results.json lacks what is shown" in str(error)
            assert "delete the file and run `ltdd-ray evaluate` with" in str(error)
    with pytest.raises(UserError, match="lacks what is shown"):
        write_report(run_folder)
