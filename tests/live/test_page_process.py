"""The page of one run in a process of its own: it tells its address or why there is none, and ends with its starter."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tm_torchrl.live import page_process
from tm_torchrl.live.page_process import PageProcess

WAIT_S = 120.0  # the machine may be busy


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "oval" / "a").mkdir(parents=True)
    (tmp_path / "oval" / "a" / "config.yaml").write_text("env: {track: oval}\nalgorithm: {}\n", encoding="utf-8")
    return tmp_path / "oval" / "a"


@pytest.fixture
def process(run: Path) -> Iterator[PageProcess]:
    started = PageProcess(run)
    yield started
    started.close()


def address_of(process: PageProcess) -> str:
    end = time.monotonic() + WAIT_S
    while (address := process.address()) is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return address


def runs_at(address: str) -> list[str]:
    """Names of the runs that a page shows."""
    parts = urlsplit(address)
    assert parts.port is not None
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=WAIT_S)
    connection.request("GET", f"{parts.path}api/runs")
    found = json.loads(connection.getresponse().read())
    connection.close()
    return [row["name"] for row in found["runs"]]


def test_it_serves_the_run_until_its_starter_is_gone(process: PageProcess) -> None:
    address = address_of(process)
    assert runs_at(address) == ["oval/a"]
    process._connection.close()  # as the end of this process would, however it ends
    process._process.join(WAIT_S)
    assert process._process.exitcode == 0
    with pytest.raises(ConnectionRefusedError):
        runs_at(address)


def test_a_port_in_use_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_process, "ignore_ending_signals", lambda: None)  # these are for a process of its own
    monkeypatch.setattr(page_process.os, "nice", lambda _: None, raising=False)
    ours, theirs = multiprocessing.Pipe()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        page_process._serve(theirs, run, taken.getsockname()[1])
    address, problem = ours.recv()
    assert address == "" and problem.startswith("OSError: ")


class Ended:
    """A process that has ended before it told anything."""

    exitcode = -9

    def is_alive(self) -> bool:
        return False

    def join(self, timeout: float) -> None: ...

    def kill(self) -> None: ...


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_process_that_has_ended_is_told(is_closed: bool) -> None:
    process = PageProcess.__new__(PageProcess)
    process._connection, theirs = multiprocessing.Pipe()
    process._process = Ended()
    if is_closed:
        theirs.close()
    with pytest.raises(OSError, match="exit code -9"):
        process.address()
