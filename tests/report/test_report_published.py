"""Published numbers on a run's page: only beside the settings that they belong to."""

import re

from reportkit import rendered


def test_published_numbers_stand_beside_those_of_the_run(run_folder):
    data = "data: {source: parquet, name: cifar10, imbalance_factor: 100.0}"
    cell = f"method: ltdd\n{data}\ndistill: {{ipc: 10}}\n"
    (run_folder / "config.yaml").write_text(cell)
    page = rendered(run_folder)
    text = " ".join(page.text.split())
    assert (
        "Published accuracy 53.4 %" in text and "Ticks are published numbers: Zhao et al." in text
    )
    assert (
        "LTDD 53.8 ± 1.0 published 53.4" in text
        and "Random selection 38.8 ± 1.0 published 34.4" in text
    )
    ticks = [line["class"] for line in page.all("line") if "published" in (line.get("class") or "")]
    assert ticks == ["halo published", "mark published"] * 2, (
        "the rows of the other sets have no published number"
    )


def test_other_settings_than_the_methods_have_no_published_number(run_folder):
    data = "data: {source: parquet, name: cifar10, imbalance_factor: 100.0}"
    cell = f"method: ltdd\n{data}\ndistill: {{ipc: 10, pictures_per_side: 2}}\n"
    (run_folder / "config.yaml").write_text(cell)
    assert not re.search(r"Published|published \d|published numbers", rendered(run_folder).text)


def test_a_page_without_published_numbers_does_not_mention_them(run_folder):
    assert not re.search(r"Published|published \d|published numbers", rendered(run_folder).text)
