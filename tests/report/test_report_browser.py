"""Both pages in a real browser: images, keys, narrow windows, dark mode, and no errors."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from reportkit import results, write_run

from ltdd_ray.report.comparison import write_comparison
from ltdd_ray.report.page import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on PATH: install chromium to try the pages in a browser"
)

# There are published numbers for this config.
CONFIG = "method: ltdd\ndata: {name: cifar10, imbalance_factor: 100}\ndistill: {ipc: 10}\n"
PAGES = ("report", "compare")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic", "--disable-sync"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The complete page of a run, and that of three runs, one with a very long name."""
    folder = tmp_path_factory.mktemp("runs")
    names = ("trial", "other", "a_run_whose_name_has_no_space_and_does_not_end_" + "x" * 40)
    runs = [write_run(folder / name, results() | {"name": name}, CONFIG) for name in names]
    ways = {f"distance/classifier/{way}": 0.5 for way in ("student", "expert", "left")}
    (runs[0] / "distilled" / "history.jsonl").write_text(
        json.dumps({"update": 1, "loss/total": 0.9, **ways})
    )
    return {
        "report": write_report(runs[0]),
        "compare": write_comparison(runs, folder / "compare.html"),
    }


@contextmanager
def opened(browser: Browser, file: Path, **settings: Any) -> Iterator[Page]:
    """The page in a new window. It must print nothing and request nothing but its file."""
    page, said, asked = browser.new_page(**settings), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    page.close()
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


def shown(page: Page, selector: str) -> int:
    """How many elements are on the page and take up space."""
    return page.locator(selector).locator("visible=true").count()


@pytest.mark.parametrize("name", PAGES)
def test_every_image_decodes(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with opened(browser, pages[name]) as page:
        widths = page.evaluate("""Promise.all([...document.querySelectorAll("main img[src]")].map(
            (image) => image.decode().then(() => image.naturalWidth)))""")
        assert widths == [8] * (24 if name == "report" else 36)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_makes_the_page_scroll_sideways(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    with opened(browser, pages[name], viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_long_class_names_wrap_within_their_cards(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    words = " with several words" * 4
    names = ["_".join(["an_unbroken_name"] * 5), f"a name{words}", "x", f"another{words}"]
    page_of_run = write_report(write_run(tmp_path / "trial", results() | {"class_names": names}))
    with opened(browser, page_of_run, viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert (
            page.evaluate("""[...document.querySelectorAll("main .bars th[scope=row]")].filter(
            (name) => name.scrollWidth > name.clientWidth).length""")
            == 0
        ), "a name is cut"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(
    browser: Browser, pages: dict[str, Path], name: str, scheme: str
) -> None:
    """By the contrast ratio of WCAG 2, level AA."""
    with opened(browser, pages[name], color_scheme=scheme) as page:
        assert (
            luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1
        ) == (scheme == "dark")
        for text in (
            "h1",
            ".lead",
            ".note",
            ".eyebrow",
            "nav a",
            "main th",
            "main td.number",
            "main .spread",
        ):
            colours = page.locator(text).first.evaluate("""(element) => {
                let behind = element;
                const clear = "rgba(0, 0, 0, 0)";
                while (getComputedStyle(behind).backgroundColor === clear)
                    behind = behind.parentElement;
                return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
            }""")
            dark, light = sorted(map(luminance, colours))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, colours)


def luminance(colour: str) -> float:
    """Relative luminance 0..1 of ``rgb(...)``."""
    shares = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_runs_are_chosen_with_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["compare"]) as page:
        everywhere = {style: shown(page, f"main .{style}") for style in ("run-0", "run-1", "run-2")}
        assert everywhere["run-0"] == everywhere["run-1"] > 10
        page.get_by_role("button", name="None").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")  # the first run's box
        assert shown(page, "main .run-0") == 0
        assert {style: shown(page, f"main .{style}") for style in ("run-1", "run-2")} == {
            s: everywhere[s] for s in ("run-1", "run-2")
        }
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert [shown(page, f"main .{style}") for style in everywhere] == [0, 0, 0]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert {style: shown(page, f"main .{style}") for style in everywhere} == everywhere


def test_a_run_that_is_shown_alone_keeps_its_place_in_every_part(
    browser: Browser, pages: dict[str, Path]
) -> None:
    with opened(browser, pages["compare"]) as page:
        page.get_by_role("button", name="None").click()
        page.get_by_role("checkbox", name="other").check()
        rows = page.locator("#accuracy tr").locator("visible=true").all_inner_texts()
        assert [" ".join(row.split()) for row in rows] == [
            "other 53.8 ± 1.0 published 53.4",
            "other 65.0 ± 1.5",
            "other 57.5 ± 1.5",
            "other 35.0 ± 1.5",
            "other 60.0 ± 2.0",
        ]
        assert shown(page, ".preview img") == 12 and shown(page, "#classes polyline") == 1


def test_images_are_looked_at_with_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    with opened(browser, pages["report"]) as page:
        tiles, inspector = page.locator(".tile"), page.locator("#inspector")
        assert inspector.is_hidden()
        tiles.first.focus()
        assert inspector.is_visible() and "1, before" in inspector.inner_text()
        page.keyboard.press("ArrowRight")
        assert "2, before" in inspector.inner_text() and inspector.locator("li").count() == 4
        page.keyboard.press("ArrowDown")
        assert "2, after" in inspector.inner_text()
        page.keyboard.press("Escape")
        assert inspector.is_hidden()
