"""``tm-torchrl live`` prints its address, and names what it cannot serve."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from tm_torchrl.commands import live
from tm_torchrl.live.server import PageServer


@pytest.fixture(autouse=True)
def ended_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(server: PageServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve_forever", interrupted)
    monkeypatch.chdir(tmp_path)


def test_the_address_is_printed_and_opened_where_there_is_a_display(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The browser's command line holds a file that leads to the address, since others can see command lines."""
    opened: list[str] = []

    def read(address: str) -> None:
        opened.append(Path(url2pathname(urlsplit(address).path)).read_text(encoding="utf-8"))

    monkeypatch.setattr(live.webbrowser, "open", read)
    for display, words in ((":0", []), ("", []), (":0", ["--no-browser"])):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(sys, "argv", ["live", *words])
        monkeypatch.setenv("DISPLAY", display)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        live.main()
        address = capsys.readouterr().out.splitlines()[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
        assert [page.count(f"url={address}") for page in opened] == ([1] if display and not words else [])
        opened.clear()


@pytest.mark.parametrize(
    ("words", "text"),
    [(["gone"], "gone: must be an existing"), (["--port", "70000"], "--port 70000"), (["--port", "-1"], "--port -1")],
)
def test_what_cannot_be_served_is_named(words: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["live", "--no-browser", *words])
    with pytest.raises(SystemExit) as ended:
        live.main()
    assert text in str(ended.value)
