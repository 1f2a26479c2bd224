import base64
import io
import json
import re

import pytest
import torch
from PIL import Image
from reportkit import (
    CLASS_NAMES,
    CONFUSION,
    IPC,
    SHAPE,
    Page,
    distilled_set,
    measured,
    rendered,
    results,
    write_run,
)

from ltdd_ray.report.comparison import write_comparison

SECTIONS = [
    "accuracy",
    "classes",
    "confusions",
    "architectures",
    "classifier",
    "coverage",
    "images",
    "optimisation",
    "time",
    "files",
    "repeat",
]


def test_every_section_is_there_and_linked(run_folder):
    page = rendered(run_folder)
    assert [section["id"] for section in page.all("section")] == SECTIONS
    assert [a["href"] for a in page.all("a") if "download" not in a][1:] == [
        f"#{name}" for name in SECTIONS
    ]


def test_headline_compares_with_random_selection(run_folder):
    text = " ".join(rendered(run_folder).text.split())
    assert "53.8 % balanced accuracy from 12 distilled images" in text
    assert "networks reach a balanced accuracy of 53.8 ± 1.0 % on the pictures test images" in text
    assert "and classify 60.0 ± 2.0 % of all images correctly: balanced accuracy is 15.0" in text
    assert "15.0 points above that from as many randomly selected real images" in text


def test_groups_show_every_series_and_their_classes(run_folder):
    text = " ".join(rendered(run_folder).text.split())
    assert (
        "Few-shot 1 class, 7 images LTDD 35.0 ± 1.5 LTDD, calibrated 30.0 ± 1.5 "
        "Random selection 20.0 ± 1.5" in text
    )
    assert "Medium-shot 2 classes, 40 to 600 images each" in text


def test_classes_run_from_head_to_tail(run_folder):
    page = rendered(run_folder)
    head_to_tail = [CLASS_NAMES[k] for k in (1, 3, 0, 2)]
    bars = [svg["aria-label"] or "" for svg in page.all("svg") if svg.get("class") == "bar"]
    assert [label for label in bars if label.startswith(CLASS_NAMES)] == [
        f"{name}: {share} %" for name, share in zip(head_to_tail, ("65.0", "60.0", "55.0", "35.0"))
    ]
    marks = [
        line["class"] for line in page.all("line") if (line.get("class") or "").startswith("mark")
    ]
    assert marks == ["mark other-0", "mark random", "mark other-1"] * len(CLASS_NAMES)
    strips = [group["aria-label"] for group in page.all("div") if group.get("class") == "strip"]
    assert strips == [f"{name}, {when}" for name in head_to_tail for when in ("before", "after")]


def test_six_other_sets_have_colours_of_their_own(run_folder):
    found = results()
    for name in ("distilled_hard", "distilled_8bit", "k_center", "full_ce"):
        found["sets"][name] = measured(name, "distilled", "soft", 0.0)
    (run_folder / "results.json").write_text(json.dumps(found))
    page = rendered(run_folder)
    styles = [row["class"] for row in page.all("tr") if row.get("class")][: len(found["sets"])]
    assert len({*styles}) == len(found["sets"]) == 8
    css = (run_folder / "report.html").read_text(encoding="utf-8")
    colours = [re.findall(rf"--{style}: (#\w+)", css) for style in styles if style != "leading"]
    assert all(len(pair) == 2 for pair in colours), "one in light, one in dark"


def test_soft_and_hard_labels_are_told_apart(run_folder):
    text = " ".join(rendered(run_folder).text.split())
    soft = (
        "Soft labels: LTDD; LTDD, calibrated (logits adjusted with τ = 0.26); Before distillation."
    )
    assert f"{soft} Hard labels, one class per image: Random selection. No teacher is used" in text


def test_other_architectures_are_listed_with_their_groups(run_folder):
    page = rendered(run_folder)
    text = " ".join(page.text.split())
    assert "Network Chart All Many Medium Few convnet3-w32-instance 53.8 ± 1.0" in text
    assert "resnet18-batch 49.8 ± 1.0 61.0 ± 1.5 53.5 ± 1.5 31.0 ± 1.5" in text
    assert "resnet18-batch: 49.8 %" in [svg.get("aria-label") for svg in page.all("svg")]


def test_classifier_norms_run_from_head_to_tail_for_student_random_and_experts(run_folder):
    page = rendered(run_folder)
    text = " ".join(page.text.split())
    assert (
        "Network Many Medium Few Few ÷ many LTDD 1.82 0.73 0.73 0.40 "
        "Random selection 1.00 1.00 1.00 1.00" in text
    )
    assert (
        "Experts, representation stage 2.00 0.88 0.25 0.12 "
        "Experts, classifier stage 1.00 1.00 1.00 1.00" in text
    )
    (chart,) = [
        svg["aria-label"] or ""
        for svg in page.all("svg")
        if "head to tail" in (svg.get("aria-label") or "")
    ]
    assert chart.endswith(
        "LTDD 0.40; Random selection 1.00; "
        "Experts, representation stage 0.12; Experts, classifier stage 1.00"
    )
    lines = {tag["class"]: tag["points"] or "" for tag in page.all("polyline")}
    heights = {
        style: [float(point.split(",")[1]) for point in points.split()]
        for style, points in lines.items()
    }
    assert heights["curve leading"][0] < min(heights["curve leading"][1:])  # y runs downwards
    assert heights["curve expert representation"] == sorted(heights["curve expert representation"])
    assert len(set(heights["curve random"])) == len(set(heights["curve expert classifier"])) == 1


def test_classes_of_equal_size_have_no_ratio_of_groups(run_folder):
    file = run_folder / "results.json"
    values = json.loads(file.read_text())
    values["class_counts"] = [50] * 4
    for one in (values, *values["sets"].values(), *values["cross_architecture"].values()):
        one["groups"] = {"medium": one["accuracy"]}
    file.write_text(json.dumps(values))
    page = rendered(run_folder)
    text = " ".join(page.text.split())
    assert "Network Medium LTDD 1.00 Random selection 1.00" in text
    assert "Few ÷ many" not in text and "few-shot" not in text
    labels = [svg.get("aria-label") or "" for svg in page.all("svg")]
    assert any(label.endswith("from head to tail.") for label in labels)


def test_confidence_is_shown_per_group_and_set(run_folder):
    text = " ".join(rendered(run_folder).text.split())
    assert (
        "Confidence in the predicted class Trained on Many Medium Few "
        "LTDD 75.0 ± 1.0 65.0 ± 1.0 55.0 ± 1.0" in text
    )
    assert "Probability of the true class Trained on Many Medium Few LTDD 75.0 ± 1.0" in text


def test_images_are_the_denormalised_sets_with_their_soft_labels(run_folder):
    page = rendered(run_folder)
    images = [image for image in page.all("img") if image.get("src")]
    labels = [json.loads(button["data-soft-label"] or "") for button in page.all("button")]
    assert len(images) == len(labels) == 2 * len(CLASS_NAMES) * IPC

    # Class 1 has most training images: its first image before distillation opens the gallery.
    initial, k = distilled_set(0), IPC
    source = images[0]["src"] or ""
    assert source.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        assert picture.size == (SHAPE[2], SHAPE[1])
        pixels = torch.tensor(list(picture.tobytes())).view(SHAPE[1], SHAPE[2], 3).permute(2, 0, 1)
    assert torch.equal(pixels, (initial.images[k] * 0.25 + 0.5).clamp(0, 1).mul(255).round().long())

    expected = initial.soft_labels[k].sort(descending=True)
    assert [name for name, _ in labels[0]] == [CLASS_NAMES[i] for i in expected.indices.tolist()]
    assert [share for _, share in labels[0]] == pytest.approx(expected.values.tolist())
    assert (images[0]["alt"] or "").startswith(
        f"{CLASS_NAMES[1]} 1, before; soft label: {labels[0][0][0]} "
    )


def test_curves_leave_out_what_was_not_recorded(run_folder):
    plots = [
        svg["aria-label"] or ""
        for svg in rendered(run_folder).all("svg")
        if svg.get("class") == "plot"
    ]
    labels = [label for label in plots if " over updates " in label]
    assert [label.partition(" over")[0] for label in labels] == [
        "Matching loss",
        "Representation phase",
        "Learned rate",
    ]
    assert labels[0] == "Matching loss over updates 1 to 5: from 1 to 0.2"


def test_names_and_config_are_text_not_markup(run_folder):
    page = rendered(run_folder)
    assert not page.all("b")
    assert len(page.all("script")) == 1
    assert "<b>bold</b>" in page.text
    assert "name: trial  # <script>" in page.text


def test_the_page_is_self_contained(run_folder):
    page = rendered(run_folder)
    references = [tag[key] or "" for _, tag in page.tags for key in ("src", "href") if key in tag]
    beside = [one for one in references if not one.startswith(("#", "data:"))]
    assert beside == ["distilled/distilled.safetensors"]  # a link, which nobody must follow
    html = (run_folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", html)


def test_cost_facts_and_command(run_folder):
    text = " ".join(rendered(run_folder).text.split())
    assert "Experts 1 h 2 min 1.5 GiB Distill 1 min 35 s 512 MiB Evaluate 0.0 s" in text
    assert "Time, all stages 1 h 3 min Peak memory of a process 1.5 GiB" in text
    assert "commit abc123 hardware cpu fast hardware memory 16.0 GiB hardware gpus none" in text
    assert "timings experts" not in text
    assert f"ltdd-ray run {run_folder / 'config.yaml'} --set output=repeat" in text


def test_results_alone_are_enough(tmp_path):
    bare = results("distilled_calibrated", "random", "initial") | {"expert_classifier_norms": {}}
    del bare["cross_architecture"], bare["confusion"]
    (tmp_path / "results.json").write_text(json.dumps(bare))
    page = rendered(tmp_path)
    assert [section["id"] for section in page.all("section")] == [
        "accuracy",
        "classes",
        "classifier",
        "files",
        "repeat",
    ]
    assert "Random" not in page.text and "Experts" not in page.text


def test_a_run_that_evaluated_random_selection_alone(run_folder):
    alone = results("distilled", "distilled_calibrated", "initial")
    (run_folder / "results.json").write_text(json.dumps(alone))
    text = " ".join(rendered(run_folder).text.split())
    assert "38.8 % balanced accuracy from 12 randomly selected images" in text
    assert "points above" not in text
    assert "LTDD" not in text


def test_a_run_on_all_images_names_their_number(run_folder):
    everything = results("distilled", "distilled_calibrated", "initial")
    everything["sets"] = {
        "full_ce": measured("All images, cross-entropy", "long-tailed", "hard", 0.2),
        **everything["sets"],
    }
    everything |= {"set": "full_ce", **everything["sets"]["full_ce"]}
    (run_folder / "results.json").write_text(json.dumps(everything))
    text = " ".join(rendered(run_folder).text.split())
    assert (
        "58.8 % balanced accuracy from 5,647 long-tailed images "
        "Trained from scratch on 5,647 long-tailed images of 4 classes" in text
    )
    assert "points above" not in text, "five thousand images are not as many as twelve"


def test_the_accuracy_of_8_bit_images_is_shown_if_measured(run_folder):
    assert "8 bits" not in rendered(run_folder).text
    found = results()
    found["sets"]["distilled_8bit"] = measured("LTDD, 8-bit images", "8-bit", "soft", 0.13)
    (run_folder / "results.json").write_text(json.dumps(found))
    text = " ".join(rendered(run_folder).text.split())
    assert (
        "8-bit images reach 51.8 ± 1.0 %, 2.0 points below the 53.8 ± 1.0 % of the set as distilled"
        in text
    )


def test_a_single_network_has_no_deviation(run_folder):
    def single(node):
        """The results of one network: no deviations."""
        if not isinstance(node, dict):
            return node
        return {
            key: ([None] * 4 if isinstance(value, list) else None)
            if key == "std"
            else value[:1]
            if key == "runs"
            else single(value)
            for key, value in node.items()
        }

    (run_folder / "results.json").write_text(json.dumps(single(results())))
    page = rendered(run_folder)
    text = " ".join(page.text.split())
    assert (
        "±" not in text and "Balanced test accuracy in % (mean over classes), one network." in text
    )
    assert "a convnet reaches a balanced accuracy of 53.8 % on the pictures test images" in text
    assert "Few-shot 1 class, 7 images LTDD 35.0 LTDD, calibrated 30.0" in text
    assert not [line for line in page.all("line") if line.get("class") == "whisker"]
    compared = Page(write_comparison([run_folder], run_folder / "compare.html").read_text())
    assert "±" not in compared.text and not compared.all("polygon")


def without(node, missing, group):
    """Results in which the classes ``missing``, and with them ``group``, were not measured."""
    if not isinstance(node, dict):
        return node
    return {
        key: {
            part: [None if k in missing else value for k, value in enumerate(values)]
            for part, values in value.items()
        }
        if key == "per_class"
        else without(value, missing, group)
        for key, value in node.items()
        if key != group
    }


@pytest.mark.parametrize(("missing", "group"), [([2], "few"), ([0], "")])
def test_classes_without_test_images_are_named_and_left_out(run_folder, missing, group):
    found = without(results(), missing, group)
    found["confusion"] = [pair for pair in CONFUSION if pair[0] not in missing]
    name = CLASS_NAMES[missing[0]]
    (run_folder / "results.json").write_text(json.dumps(found | {"unmeasured_classes": [name]}))
    page = rendered(run_folder)
    text = " ".join(page.text.split())
    assert f"Not measured, as they have no test images: {name}." in text
    assert "the mean over classes that have any" in text
    bars = [svg["aria-label"] or "" for svg in page.all("svg") if svg.get("class") == "bar"]
    assert not [label for label in bars if label.startswith(name)]
    assert ("Few-shot" in text) == (group != "few")
    compared = Page(write_comparison([run_folder], run_folder / "compare.html").read_text())
    assert len([row for row in compared.all("th") if row.get("scope") == "row"]) > 3


def test_results_without_the_accuracy_over_images_are_still_shown(run_folder):
    """Those that an older version wrote."""
    (run_folder / "results.json").write_text(
        json.dumps(without(results(), [], "accuracy_over_images"))
    )
    text = " ".join(rendered(run_folder).text.split())
    assert "53.8 % balanced accuracy" in text and "Over images" not in text
    compared = Page(write_comparison([run_folder], run_folder / "compare.html").read_text())
    assert "Over images" not in compared.text


def test_scores_and_bytes_are_shown_where_results_have_them(run_folder):
    assert "DD-Ranking" not in rendered(run_folder).text
    found = results()
    found["robustness"] = {
        "hlr": {"mean": 0.181, "std": 0.02, "runs": [0.16, 0.2]},
        "lrs": {"mean": 0.242, "std": None, "runs": [0.242]},
    }
    for one, size in zip(found["sets"].values(), (9000, 9000, 3012, 9000)):
        one["bytes"] = size
    text = " ".join(rendered(write_run(run_folder, found)).text.split())
    assert "DD-Ranking's scores in % Hard label recovery (HLR) 18.1 ± 2.0 Label-robust" in text
    assert "score (LRS) 24.2" in text
    # 53.75 points on 9 kB, 38.75 on 3.012 kB.
    assert "Trained on kB % per kB LTDD 9.0 5.97" in text and "Random selection 3.0 12.9" in text
