"""The page in a real browser: Chromium, through Playwright (pip install playwright; not needed for development)."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.pages.screenshots import DRAWS_WITHOUT_A_CARD, MOST_BYTES, PICTURES, SHOTS, take_all
from tests.live.conftest import Site
from tests.live.run_folders import RULER, make_run
from tm_torchrl.live.report import write_report
from tm_torchrl.record.folder_claim import claim
from tm_torchrl.record.requests import asked_for
from tm_torchrl.record.run_folder import append_line, best_laps, load_time

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
PLACES = (("sky", 0.25, 0.22), ("road", 0.36, 0.97), ("grass", 0.05, 0.4))
WAIT_MS = 60_000  # the machine may be busy
KEPT = os.environ.get("LIVE_PICTURES")  # a folder to look at


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=[*DRAWS_WITHOUT_A_CARD, "--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any, site: Site) -> Iterator[Any]:
    """Opens the page in a window; anything that the browser complains about fails the test."""
    contexts, complaints = [], []

    def opened(*, width: int = 1400, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(site.server.address)
        page.wait_for_selector("#ghosts .chip:has-text('author')")
        assert page.get_attribute("#play", "aria-label") == "Play", "where the CPU draws, it does not play by itself"
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [text for text in complaints if "ERR_INTERNET_DISCONNECTED" not in text] == []


def until(page: Any, condition: str) -> None:
    """Wait for a condition in JavaScript; the page's policy forbids Playwright's own way, which evaluates strings."""
    end = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def text_of(page: Any, selector: str) -> str:
    found: str = page.inner_text(selector)
    return " ".join(found.split())


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_seen_first(open_page: Any, width: int, height: int, scheme: str) -> None:
    page = open_page(width=width, height=height, scheme=scheme)
    page.click("#play")
    until(page, "Number(document.querySelector('#time').textContent) > 0.5")
    chips = [text_of(page, f"#ghosts .pair:nth-child({k})") for k in (1, 2, 3)]
    assert [chip.split(" 20.")[0].strip("● ") for chip in chips] == ["best", "latest, 3072", "author"]
    assert "author" in text_of(page, "#tiles .tile:first-child .medal")
    assert page.is_visible("#chart-laps svg") and page.is_visible("#sectors table")
    assert "#" not in text_of(page, "#sectors")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing leaves the window sideways"
    if KEPT:
        page.screenshot(path=Path(KEPT) / f"live_{width}_{scheme}.png", full_page=True)


def test_the_view_shows_sky_road_and_grass(open_page: Any) -> None:
    page = open_page(width=800, height=600)
    page.wait_for_timeout(1000)
    picture = Image.open(io.BytesIO(page.locator("#picture").screenshot())).convert("RGB")
    at = {name: picture.getpixel((round(x * picture.width), round(y * picture.height))) for name, x, y in PLACES}
    assert at["sky"][2] > at["sky"][0], "blue"
    assert at["grass"][1] > max(at["grass"][0], at["grass"][2]), "green"
    assert max(at["road"]) - min(at["road"]) < 30, "grey"


def test_keys_of_the_player(open_page: Any) -> None:
    page = open_page(width=800, height=600)
    page.focus("#view")
    page.keyboard.press(" ")
    until(page, "Number(document.querySelector('#time').textContent) > 0.2")
    page.keyboard.press(" ")
    assert page.get_attribute("#play", "aria-label") == "Play"
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press(".")
    until(page, "document.querySelector('#time').textContent === '2.05'")
    assert page.get_attribute("#scrub", "aria-valuetext") == "2.05 seconds"
    page.keyboard.press("-")
    assert text_of(page, "#pace").startswith("0.5")
    page.keyboard.press("c")
    assert text_of(page, "#camera") == "Camera: above"
    followed = "#ghosts [aria-pressed=true]"
    assert text_of(page, followed).startswith("best")
    page.keyboard.press("f")
    assert text_of(page, followed).startswith("latest")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")


def test_an_earlier_lap_joins(open_page: Any) -> None:
    page = open_page(width=800, height=600)
    page.select_option("#ghosts select", label="1024 frames: not finished")
    page.wait_for_selector("#ghosts [aria-pressed=true]:has-text('1024')")
    assert " m" in text_of(page, "#ghosts [aria-pressed=true]"), "how far it came, since it has no time"


def test_a_growing_run_and_its_buttons(open_page: Any, site: Site) -> None:
    folder = site.folder / "runs/oval/first"
    page = open_page()
    assert not page.is_visible("#asks")
    with claim(folder):
        append_line(folder / "metrics.jsonl", {"frames": 123_456, "seconds": 99.0, "speed/env_steps_per_s": 777.0})
        page.wait_for_selector("#status:has-text('training')")
        page.wait_for_selector("#tiles:has-text('123k')")
        assert "777 a second" in text_of(page, "#status")
        for what in ("evaluate", "save", "stop"):
            page.click(f"#ask-{what}")
            page.wait_for_selector(f"#ask-{what}:not(:disabled)")
            assert asked_for(folder) == [what]


def test_text_of_a_run_is_text(open_page: Any, site: Site) -> None:
    folder = site.folder / "runs/oval/first"
    name = "<img src=x onerror=alert(1)>"
    append_line(folder / "evaluations.jsonl", {"track": name, "frames": 5000, "seconds": 99.0, "finish_rate": 0.5})
    page = open_page()
    page.wait_for_selector(f"#messages li:has-text('{name}')")
    assert page.query_selector("img[src=x]") is None


def test_driving(open_page: Any, site: Site) -> None:
    page = open_page(width=700, height=500)
    page.click("#drive")
    page.wait_for_selector("#banner:has-text('Press an arrow key')")
    page.keyboard.down("ArrowUp")
    until(page, "Number(document.querySelector('#time').textContent) > 0.6")
    assert not page.is_visible("#banner")
    page.keyboard.down("ArrowLeft")
    page.wait_for_selector("#key-left.down")
    assert page.query_selector("#key-up.down") is not None
    page.keyboard.up("ArrowLeft")
    until(page, "Number(document.querySelector('#speed').textContent) > 20")
    until(page, "document.querySelector('#view').dataset.latency")
    picture = Image.open(io.BytesIO(page.locator("#picture").screenshot())).convert("RGB").resize((100, 100))
    colours = [picture.getpixel((x, y)) for x in range(100) for y in range(100)]
    assert sum(red > 1.5 * green and blue > 1.2 * green for red, green, blue in colours) > 50, "the own car is pink"
    page.keyboard.up("ArrowUp")
    page.keyboard.press("r")
    until(page, "document.querySelector('#time').textContent === '0.00'")
    if KEPT:
        page.screenshot(path=Path(KEPT) / "live_drive.png")
    page.keyboard.press("Escape")
    assert text_of(page, "#drive") == "Drive"


def test_a_driven_lap_is_kept_and_becomes_a_ghost(open_page: Any, site: Site) -> None:
    RULER.save(site.folder / "ruler.npz")
    run = site.folder / "runs" / "ruler" / "first"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"env: {{track: '{(site.folder / 'ruler.npz').as_posix()}'}}\n")
    page = open_page(width=700, height=500)
    page.wait_for_selector("#run option:has-text('ruler/first')", state="attached")
    page.select_option("#run", label="ruler/first")
    page.wait_for_selector("#ghosts .chip", state="detached")
    page.click("#drive")
    page.wait_for_selector("#banner:has-text('Press an arrow key')")
    page.keyboard.down("ArrowUp")
    page.wait_for_selector("#banner:has-text('your best lap. R drives again')")
    page.keyboard.up("ArrowUp")
    page.wait_for_selector("#ghosts .chip:has-text('you')")
    (kept,) = best_laps(site.folder / "drives", suffix=".inputs").values()
    assert text_of(page, "#ghosts .chip").endswith(f"{load_time(kept):.2f} s")
    until(page, f"document.querySelector('#time').textContent === '{load_time(kept):.2f}'")


def test_a_lost_connection_comes_back(open_page: Any) -> None:
    page = open_page(width=800, height=600)
    page.context.set_offline(True)
    page.wait_for_selector("#notice:has-text('connection is lost')")
    page.context.set_offline(False)
    page.wait_for_selector("#notice", state="hidden")


def test_controls_have_names(open_page: Any) -> None:
    page = open_page()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, canvas[role], svg[role]')]
          .filter((one) => one.checkVisibility())
          .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim()))
          .map((one) => one.outerHTML.slice(0, 90))"""
    )
    assert unnamed == []


def test_runs_are_compared(open_page: Any, site: Site) -> None:
    make_run(site.folder / "runs" / "oval" / "second")
    page = open_page()
    assert text_of(page, "#status").startswith("ended"), "the newest run is open"
    box = "#runs input[aria-label='Compare oval/first']:not(:disabled)"
    page.wait_for_selector("#runs tr.open:has-text('oval/second')")
    page.check(box)
    page.wait_for_selector("#chart-laps output:has-text('oval/first median')")
    page.wait_for_selector("#ghosts .chip:has-text('first')")
    page.uncheck(box)
    page.wait_for_selector("#ghosts .chip:has-text('first')", state="detached")


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_the_report_opens_from_a_file(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    """The same page without a server: laps play, sectors and curves are there, and nothing is asked for elsewhere."""
    run = make_run(tmp_path / "oval" / "first")
    keep = load_time(best_laps(run)["oval"])
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, complaints, asked = context.new_page(), [], []
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(write_report(run).as_uri())
    page.wait_for_selector("#ghosts .chip:has-text('author')")
    page.click("#play")
    until(page, "Number(document.querySelector('#time').textContent) > 0.2")
    assert f"{keep:.2f} s" in text_of(page, "#tiles")
    assert page.is_visible("#chart-laps svg") and page.is_visible("#chart-speed svg")
    for hidden in ("#drive", "#run-pick", "#runs", "#asks"):
        assert not page.is_visible(hidden), hidden
    page.select_option("#ghosts select", label="1024 frames: not finished")
    page.wait_for_selector("#ghosts [aria-pressed=true]:has-text('1024')")
    page.click("#about summary")
    assert "track: oval" in text_of(page, "#settings")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing leaves the window sideways"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("document.querySelector('#printed').src.length") > 10_000
    assert complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [page.url]
    if KEPT:
        page.emulate_media(media="screen")
        page.screenshot(path=Path(KEPT) / f"report_{width}_{scheme}.png", full_page=True)
    context.close()


def test_the_pictures_of_the_documentation(browser: Any, tmp_path: Path) -> None:
    """The program that takes them still can; those in the documentation are of the sizes that it takes."""
    for name, png in take_all(browser, make_run(tmp_path / "oval" / "first")):
        window = SHOTS[name][1]
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        assert picture.size == Image.open(PICTURES / name).size == (window["width"], window["height"]), name
        assert len(png) <= MOST_BYTES and len(picture.getcolors(256) or ()) > 100, f"{name} is not blank"
        if KEPT:
            (Path(KEPT) / name).write_bytes(png)
