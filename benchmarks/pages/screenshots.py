"""Take the pictures of the page and of the report that the documentation shows: ``live*.png`` and ``report*.png``.

    pip install playwright    # and a Chromium of the system, which tests/live uses too
    python benchmarks/pages/screenshots.py runs/hillside/TIME

Any run will do whose network is of the quantile family and sees floats, such as that of ``tm-torchrl train``.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tm_torchrl.live.api import Api
from tm_torchrl.live.report import write_report
from tm_torchrl.live.runs import Runs
from tm_torchrl.live.server import PageServer

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "images"
MOST_BYTES = 200_000
WAIT_MS = 120_000
DRAWS_WITHOUT_A_CARD = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
TALL, WIDE, PHONE = {"width": 1280, "height": 1160}, {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOTS = {  # what is shown, in a window of what size, and at what share of the lap
    "live.png": ("live", TALL, 0.55),
    "live_phone.png": ("live", PHONE, 0.55),
    "report.png": ("report", WIDE, 0.3),
    "report_phone.png": ("report", PHONE, 0.3),
}


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a page that shows one run."""
    server = PageServer(Api(Runs([run]), drives=run / "drives").routes())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def take(browser: Any, address: str, window: dict[str, int], share: float) -> bytes:
    """A PNG of a page once its laps are loaded, at a share of the lap that the camera follows."""
    context = browser.new_context(viewport=window, color_scheme="light", device_scale_factor=1)
    try:
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(address)
        page.wait_for_selector("#ghosts .chip:has-text('author')")
        page.wait_for_selector("#sectors table")
        if page.get_attribute("#play", "aria-label") == "Pause":
            page.click("#play")
        page.evaluate(
            """share => {
                const scrub = document.querySelector("#scrub");
                scrub.value = share * scrub.max;
                scrub.dispatchEvent(new Event("input"));
            }""",
            share,
        )
        if page.is_visible("#values button"):
            page.click("#values button")
            page.wait_for_selector("#values svg")
        page.evaluate("scrollTo(0, 0)")  # a click scrolls to what is clicked
        page.wait_for_timeout(1_000)  # until all is drawn
        taken: bytes = page.screenshot()
    finally:
        context.close()
    return taken


def small(png: bytes) -> bytes:
    """A PNG with 256 colours, which takes about a third."""
    found = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(found, "PNG", optimize=True)
    return found.getvalue()


def take_all(browser: Any, run: Path) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each picture, one after the other."""
    with tempfile.TemporaryDirectory() as folder, served(run) as address:
        report = Path(folder) / "report.html"
        shutil.copy(write_report(run), report)
        addresses = {"live": address, "report": report.as_uri()}
        for name, (what, window, share) in SHOTS.items():
            yield name, small(take(browser, addresses[what], window, share))


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, drawing on the CPU, through Playwright."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("error: there is no chromium: install it, for example with apt-get install chromium")
    try:
        playwright = import_module("playwright.sync_api")  # in no extra: only scripts like this and a test use it
    except ModuleNotFoundError:
        raise SystemExit("error: playwright is not installed: pip install playwright") from None
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=[*DRAWS_WITHOUT_A_CARD, "--no-sandbox"])
        yield browser
        browser.close()


def main() -> None:
    """Take and write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder that is shown")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures (docs/images)")
    args = parser.parse_args()
    if not (args.run / "config.yaml").is_file():
        raise SystemExit(f"error: {args.run}: must be a run folder")
    with chromium() as browser:
        for name, picture in take_all(browser, args.run):
            if len(picture) > MOST_BYTES:
                raise SystemExit(f"error: {name} would have {len(picture):,} bytes, more than {MOST_BYTES:,}")
            (args.out / name).write_bytes(picture)
            print(f"wrote {args.out / name} ({len(picture):,} bytes)")


if __name__ == "__main__":
    main()
