"""The report in Chromium: charts, sorting, filter and colour schemes work without network requests."""

import re
import shutil

import pytest
from tests.reporting.report_folders import grid, write_run, write_sweep

from backhand.reporting.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
EVIL = "<script>document.title='pwned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """`opened(file)` is the browser's page; it must log nothing and request only the file."""
    seen = []

    def open_file(file, width=1280, scheme="light"):
        page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
        page.set_default_timeout(90_000)
        wrong = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append("a dialog"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        page.goto(file.as_uri())
        seen.append((page, wrong))
        return page

    yield open_file
    for page, wrong in seen:
        page.context.close()
        assert wrong == []


def report(folder):
    write_report([folder], folder / "report.html")
    return folder / "report.html"


def draw_all(page):
    charts = page.locator(".chart")
    for number in range(charts.count()):
        charts.nth(number).locator(".main-svg").first.wait_for(state="attached")
    return charts


def test_every_chart_of_a_run_is_drawn_in_light_and_dark_and_changes_with_the_scheme(opened, tmp_path):
    page = opened(report(write_run(tmp_path / "run", settings={"name": EVIL})))
    charts = draw_all(page)
    assert charts.count() == 8
    for number in range(charts.count()):
        assert charts.nth(number).locator("svg path").count() > 0
    assert charts.nth(0).locator(".scatterlayer path.js-line").count() == 2
    assert EVIL in page.title()
    axis = page.locator(".xtick text").first

    def ink():
        return axis.evaluate("element => getComputedStyle(element).fill")

    light = ink()
    page.emulate_media(color_scheme="dark")
    for _ in range(600):
        if ink() != light:
            break
        page.wait_for_timeout(100)
    assert ink() == "rgb(231, 234, 238)"
    assert page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor") == "rgb(16, 19, 23)"


def test_runs_are_sorted_by_keyboard_and_filtered(opened, tmp_path):
    settings = [{"optimizer.lr": lr, "name": name} for lr, name in (("1e-5", EVIL), ("0.3", "b"), ("0.02", "c"))]
    page = opened(report(write_sweep(tmp_path / "sweep", settings, [0.1, 0.3, None])))
    table = page.locator("#runs").locator("xpath=..").locator("table")

    def column(number):
        return [cell.text_content() for cell in table.locator(f"tbody tr:not([hidden]) > :nth-child({number})").all()]

    head = table.locator("thead th").nth(1)
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(2) == ["1e-5", "0.02", "0.3"]
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(2) == ["0.3", "0.02", "1e-5"]
    table.locator("thead button", has_text="val/loss").click()
    assert head.get_attribute("aria-sort") == "none"
    assert column(5) == ["0.1", "0.3", ""]  # empty cells come last in both directions
    table.locator("thead button", has_text="val/loss").click()
    assert column(5) == ["0.3", "0.1", ""]
    assert EVIL in column(3)
    page.locator("input[type=search]").last.fill("finished 0.3")
    assert column(2) == ["0.3"]
    assert page.locator("output").last.text_content() == "1 of 3 rows"


def test_a_narrow_screen_scrolls_only_vertically(opened, tmp_path):
    run = report(write_run(tmp_path / "run", settings={"name": "n" * 300}))
    sweep = report(write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0.1, 0.3], seed=[0, 1]), [0.1, 0.2, 0.3, None]))
    for file in (run, sweep):
        page = opened(file, width=390)
        draw_all(page)
        assert page.locator("html").evaluate("element => element.scrollWidth") == 390


def test_every_chart_of_a_sweep_is_drawn_and_shows_text_unchanged(opened, tmp_path):
    settings = [
        {"optimizer.lr": lr, "model.hidden_activation": name} for lr in ("0.1", "0.3") for name in ("<b>x&y", "z")
    ]
    page = opened(report(write_sweep(tmp_path / "sweep", settings, [0.1, 0.2, 0.3, 0.4])))
    charts = draw_all(page)
    assert charts.count() == 5
    labels = charts.nth(2).locator(".xtick text").all_text_contents()
    assert sorted(labels) == ["<b>x&y", "z"]


def test_the_printed_report_is_light_and_has_every_chart(opened, tmp_path):
    page = opened(report(write_run(tmp_path / "run")), scheme="dark")
    charts = draw_all(page)
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    for number in range(charts.count()):
        svg = charts.nth(number).locator("svg").first
        assert svg.get_attribute("style").count("rgb(255, 255, 255)") == 1
        assert svg.get_attribute("width") == "640"
    page.emulate_media(media="print")
    assert colour(page.locator("body"), "color") == (27, 31, 36)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(opened, tmp_path, scheme):
    page = opened(report(write_run(tmp_path / "run", overrides=["seed=0"])), scheme=scheme)
    names = ("page", "surface", "mark", "ink", "muted", "link", "good", "bad", "warn")
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<p id=probe></p>')")
    probe, colours = page.locator("#probe"), {}
    for name in names:
        probe.evaluate("(element, name) => { element.style.color = `var(--${name})`; }", name)
        colours[name] = colour(probe, "color")
    pairs = [(front, back) for front in ("ink", "muted", "link") for back in ("page", "surface", "mark")]
    for front, back in [*pairs, ("good", "page"), ("bad", "page"), ("warn", "page"), ("warn", "mark")]:
        assert contrast(colours[front], colours[back]) >= 4.5, (front, back)


def colour(element, name):
    found = element.evaluate("(element, name) => getComputedStyle(element)[name]", name)
    return tuple(int(part) for part in re.findall(r"\d+", found))


def contrast(one, other):
    """The contrast ratio of WCAG 2."""
    lights = []
    for parts in (one, other):
        linear = [part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
