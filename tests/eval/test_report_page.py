"""report.html in a real browser: it shows what was measured, to everybody, and asks nobody.

Needs Debian's package chromium and the Python packages of tools/requirements/browser.txt; without
them these tests are skipped, with a sentence that says so.
"""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from report_lines import BUCKETS, HOSTILE, LAYERS, METHODS, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PAPER = {"width": 703, "height": 1000}  # A4 between the margins
PATIENCE_S = 120  # a slow machine is no failure

pytestmark = pytest.mark.examples("quant", "window")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: ./run --setup test browser"
    )
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Shown:
    """A report in the browser, with everything it complained about or asked for."""

    def __init__(
        self,
        browser,
        path: Path,
        *,
        viewport: dict | None = None,
        scheme: str = "light",
        wait_for_plots: bool = True,
        times_slower: int = 1,
    ):
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(
            viewport=viewport or DESKTOP, color_scheme=scheme, offline=True
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE_S)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.add_init_script(
            "window.shifted = 0; new PerformanceObserver(list => {"
            " for (const entry of list.getEntries()) window.shifted += entry.value;"
            "}).observe({type: 'layout-shift', buffered: true})"
        )
        processor = self.context.new_cdp_session(self.page)
        processor.send("Emulation.setCPUThrottlingRate", {"rate": times_slower})
        self.page.goto(path.as_uri())
        if wait_for_plots:
            self.page.wait_for_selector("html[data-ready]")

    def scroll_through(self) -> None:
        height = self.page.evaluate("document.documentElement.scrollHeight")
        for y in range(0, height, 500):
            self.page.evaluate("y => scrollTo(0, y)", y)
            self.page.wait_for_timeout(30)
        self.wait_for_every_plot()

    def wait_for_every_plot(self) -> None:
        """Asked for from here: the page's own policy forbids it to evaluate what it is given."""
        plots = "[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg'))"
        end = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(plots):
            assert time.monotonic() < end, "plots are missing"
            self.page.wait_for_timeout(50)

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_text_contents()]

    def methods(self) -> list[str]:
        """Of the first question, as its rows stand now."""
        return self.texts("#q1 .scroll.full tbody th")

    def colours(self) -> dict[str, str]:
        return self.page.evaluate(
            "() => ({page: getComputedStyle(document.body).backgroundColor,"
            " plot: getComputedStyle(document.querySelector('.plot .main-svg')).backgroundColor})"
        )

    def sideways(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.fixture
def show(browser) -> Iterator:
    shown = []

    def open_page(path: Path, **options) -> Shown:
        shown.append(Shown(browser, path, **options))
        return shown[-1]

    yield open_page
    for one in shown:
        one.context.close()


@pytest.fixture(scope="module")
def everything(kvlab_command, tmp_path_factory) -> Path:
    """The report of a run in which everything was measured."""
    folder = tmp_path_factory.mktemp("report")
    run = write_run(folder / "run")
    Command(kvlab_command, folder)("report", run)
    return run / "report.html"


@pytest.fixture(scope="module")
def measured(kvlab_command, tmp_path_factory) -> Path:
    """The report of a run that really ran."""
    kvlab = Command(kvlab_command, tmp_path_factory.mktemp("measured"))
    quant = {"name": "quant", "params": {"bits": {"sweep": [8, 4, 2]}}}
    config = kvlab.config(
        methods=[quant, {"name": "window", "params": {"recent": 16}}],
        tasks=[
            {"builtin": "mqar", "pairs": 8, "context": 128, "samples": 8},
            {"builtin": "copy", "tokens": 24, "samples": 2},
        ],
    )
    kvlab("eval", config)
    return kvlab.folder / "config" / "report.html"


@pytest.fixture(params=["everything", "measured"])
def report(request) -> Path:
    return request.getfixturevalue(request.param)


def test_nothing_is_complained_about_and_nothing_is_asked_for(show, report):
    shown = show(report)
    shown.scroll_through()
    assert shown.complaints == []
    assert [url for url in shown.asked if not url.startswith("blob:")] == [report.as_uri()]


def test_nothing_moves_while_the_page_is_made(show, report):
    shown = show(report, times_slower=20)
    shown.scroll_through()
    assert shown.page.evaluate("window.shifted") == 0


def test_every_plot_is_there(show, everything):
    shown = show(everything)
    shown.scroll_through()
    figures = "figure[data-plot]"
    kinds = shown.page.eval_on_selector_all(
        figures, "all => all.map(f => [f.closest('section').id, f.dataset.plot, f.dataset.metric])"
    )
    assert [tuple(kind) for kind in kinds] == [
        ("q1", "tradeoff", "acc"),
        ("q1", "tradeoff", "tpot_ms"),
        ("q1", "needle", None),
        ("q1", "layers", "needle_retention"),
        ("q2", "tradeoff", "ppl"),
        ("q2", "tradeoff", "kl"),
        ("q2", "tradeoff", "tpot_ms"),
        ("q2", "roofline", None),
        ("q2", "speedup", None),
        ("q2", "distance", "delta_nll"),
        ("q2", "layers", "attn_snr_db"),
        ("q2", "layers", "k_rel_err"),
    ]
    marks = shown.page.eval_on_selector_all(
        figures, "all => all.map(f => f.querySelectorAll('.point, .hm image, .hm').length)"
    )
    assert all(count > 0 for count in marks), marks
    bars = shown.page.locator("figure[data-plot=distance] .barlayer .point")
    assert bars.count() == (len(METHODS) - 1) * len(BUCKETS)
    points = shown.page.locator("figure[data-plot=layers][data-metric=attn_snr_db] path.point")
    assert points.count() == (len(METHODS) - 1) * LAYERS
    assert shown.page.locator("figure[data-plot=needle] .panel").count() == len(METHODS)


def test_every_plot_is_also_a_sentence_and_a_table(show, report):
    shown = show(report, wait_for_plots=False)
    labels = shown.page.eval_on_selector_all(
        ".plot", "all => all.map(p => p.getAttribute('aria-label'))"
    )
    assert labels
    assert all(label and re.search(r"\d", label) for label in labels), labels
    rows = shown.page.eval_on_selector_all(
        "figure", "all => all.map(f => f.querySelectorAll('.plot-data tbody tr').length)"
    )
    assert all(rows), rows


def test_a_table_sorts_by_click(show, everything):
    shown = show(everything, wait_for_plots=False)
    given = shown.methods()
    assert given[0] == "dense"
    assert len(given) == len(METHODS)
    head = shown.page.locator("#q1 .scroll.full th", has_text=re.compile("^cr$"))
    seen = [head.get_attribute("aria-sort")]
    orders = []
    for _ in range(3):
        head.get_by_role("button").click()
        seen.append(head.get_attribute("aria-sort"))
        orders.append(shown.methods())
    assert seen == ["none", "ascending", "descending", "none"]
    by_cr = sorted(range(len(METHODS)), key=lambda i: METHODS[i][2])
    assert orders == [[given[i] for i in by_cr], [given[i] for i in by_cr[::-1]], given]


def test_a_table_sorts_by_keyboard_and_what_is_missing_comes_last(show, everything):
    shown = show(everything, wait_for_plots=False)
    for _ in range(200):
        shown.page.keyboard.press("Tab")
        if shown.page.evaluate("document.activeElement.textContent") == "Δ to dense":
            break
    outline = shown.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    for key in ("Enter", "Space"):
        shown.page.keyboard.press(key)
        assert shown.methods()[-1] == "dense"
    head = shown.page.locator("#q1 .scroll.full th[aria-sort=descending]")
    assert head.text_content() == "Δ to dense"
    assert shown.page.locator("#q1 th[aria-sort=ascending]").count() == 0


def test_the_first_key_skips_to_the_results(show, measured):
    shown = show(measured, wait_for_plots=False)
    shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    assert shown.page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0


def lightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_plots_follow_the_colour_scheme(show, measured):
    shown = show(measured, scheme="dark")
    shown.scroll_through()
    dark = shown.colours()
    assert dark["page"] == dark["plot"]
    assert lightness(dark["page"]) < 40
    shown.page.emulate_media(color_scheme="light")
    shown.page.wait_for_timeout(200)
    light = shown.colours()
    assert light["page"] == light["plot"]
    assert lightness(light["page"]) > 240


@pytest.mark.parametrize("viewport", [PHONE, {"width": 320, "height": 640}, DESKTOP])
def test_only_tables_scroll_sideways(show, report, viewport):
    shown = show(report, viewport=viewport)
    shown.scroll_through()
    assert shown.sideways() == 0
    shown.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert shown.sideways() == 0


def test_plots_use_the_width_there_is(show, measured):
    shown = show(measured, viewport=PHONE)
    shown.scroll_through()
    shown.page.set_viewport_size(DESKTOP)
    shown.page.wait_for_timeout(300)
    widths = shown.page.eval_on_selector_all(
        ".plot", "all => all.map(p => [p.clientWidth, p.querySelector('svg').clientWidth])"
    )
    assert all(place == drawn and place > PHONE["width"] for place, drawn in widths), widths


def test_print_is_light_and_complete_whatever_the_screen_is(show, everything):
    shown = show(everything, scheme="dark")
    shown.page.emulate_media(media="print", color_scheme="dark")
    shown.wait_for_every_plot()
    colours = shown.colours()
    assert lightness(colours["page"]) > 240
    assert lightness(colours["plot"]) > 240
    assert not shown.page.locator("nav").is_visible()
    shown.page.set_viewport_size(PAPER)
    cut = shown.page.eval_on_selector_all(
        ".scroll table, .plot .main-svg",
        "all => all.filter(e => e.checkVisibility()"
        " && e.getBoundingClientRect().right > innerWidth).length",
    )
    assert cut == 0
    heights = shown.page.eval_on_selector_all(
        ".plot", "all => all.map(p => p.clientHeight - p.querySelector('svg').clientHeight)"
    )
    assert all(room >= 0 for room in heights), heights
    pdf = shown.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert shown.complaints == []


def test_names_are_text_wherever_they_come_from(show, everything):
    shown = show(everything)
    shown.scroll_through()
    assert shown.page.title() == f"every plot {HOSTILE} · kvlab"
    assert shown.texts("h1") == [f"every plot {HOSTILE}"]
    assert any(HOSTILE in name for name in shown.methods())
    assert any(HOSTILE in name for name in shown.texts(".legend li"))
    assert shown.page.locator("main img, main a[href*=example]").count() == 0
    shown.page.hover("figure[data-plot=tradeoff] .plot")
    place = shown.page.locator("#q1 figure[data-plot=tradeoff] .plot").first
    box = place.locator("path.point").last.bounding_box()
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.page.wait_for_selector(".hoverlayer text")
    assert HOSTILE[:20] in "".join(shown.texts(".hoverlayer text"))
    assert shown.page.locator(".hoverlayer a").count() == 0


def test_rows_of_others_stand_apart(show, everything):
    shown = show(everything, wait_for_plots=False)
    table = shown.page.locator("#references table.grey")
    assert "Reported elsewhere" in shown.texts("#references h2")
    assert table.locator("tbody tr").count() > 0
    assert "WikiText-2" in table.text_content()
    grey, ink = (
        shown.page.locator(cell).first.evaluate("node => getComputedStyle(node).color")
        for cell in ("#references td", "#q1 td")
    )
    assert grey != ink


def test_warnings_and_unfinished_cells_stand_first(show, everything, measured):
    notice = show(everything, wait_for_plots=False).page.locator("main > .notice")
    assert "a cell is still to be run" in notice.text_content()
    assert f"no fused kernel covers {HOSTILE}" in notice.text_content()
    assert show(measured, wait_for_plots=False).page.locator(".notice").count() == 0


def test_bold_is_bold(show, everything):
    shown = show(everything, wait_for_plots=False)
    assert shown.page.locator("#q1 td.best").count() == 0
    best = shown.page.locator("#q2 .scroll.full td.best")
    assert best.count() == 1
    assert best.evaluate("node => getComputedStyle(node).fontWeight") == "700"


def test_the_record_is_in_the_page(show, measured):
    shown = show(measured, wait_for_plots=False)
    shown.page.get_by_text("Reproducibility record").click()
    record = shown.page.locator("pre.record")
    assert record.is_visible()
    assert '"schema": "kvlab-record/1"' in record.text_content()
    assert '"finished": "20' in record.text_content()


def test_a_run_without_results_is_a_page_too(show, kvlab):
    run = kvlab.folder / "empty"
    run.mkdir()
    for name, text in (("results.jsonl", ""), ("samples.jsonl", ""), ("record.json", "{}")):
        (run / name).write_text(text)
    kvlab("report", run)
    shown = show(run / "report.html")
    assert shown.complaints == []
    assert shown.page.locator("table").count() == 1  # of metrics, empty


def test_a_page_is_made_again_elsewhere(kvlab, measured):
    out = kvlab.folder / "again.html"
    assert kvlab("report", measured.parent, "--out", out).out.strip() == str(out)
    assert out.read_bytes() == measured.read_bytes()
    kvlab.refused("E_FILE", 3, "report", kvlab.folder)
