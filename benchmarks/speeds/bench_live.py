"""What the page of ``tm-torchrl live`` costs, and how soon the car feels a key. On Linux.

    python benchmarks/speeds/bench_live.py --write
    python benchmarks/speeds/bench_live.py --start --write    # what live=true adds to the start of a training
    python benchmarks/speeds/bench_live.py --browser RUN --write    # from a key to the picture; needs Playwright

CPU time of the server as a share of one core: with a page that looks at a run of 1,500 rows which rests, with one which
grows between any two looks, and while somebody drives. The delay is that between sending a change of the keys and
receiving the first state of the car that has felt it; what a browser needs until its next picture comes on top.
``--browser`` measures from the key to the picture in Chromium, which draws on the CPU, beside the ghosts of a run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.pages.screenshots import chromium
from benchmarks.results_file import ROOT, add_results_argument, describe_run, write_results
from tm_torchrl.live.page_process import PageProcess
from tm_torchrl.record.run_folder import append_line

LOOK_S = 2.0  # as the page looks at a run
NUM_ROWS, NUM_EVALUATIONS, NUM_VALUES = 1500, 300, 30
WINDOWS = ((390, 780), (1000, 760), (1400, 900))


class Server:
    """The command in a process of its own, and a connection to it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tm_torchrl", "live", "--no-browser", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        _, _, self.host, self.token, _ = self.process.stdout.readline().split("/")
        self.connection = http.client.HTTPConnection(self.host)

    def ask(self, path: str, *, body: Any = None, state: str | None = None) -> str | None:
        """Ask, and return the state of the answer."""
        headers = {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        headers |= {} if state is None else {"If-None-Match": state}
        method = "GET" if body is None else "POST"
        self.connection.request(method, f"/{self.token}/api/{path}", body and json.dumps(body), headers)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status in (200, 304), f"{path}: {answer.status}"
        return answer.getheader("ETag")

    def cpu_s(self) -> float:
        """CPU seconds of the process so far."""
        return cpu_s_of(self.process.pid)


def make_run(folder: Path) -> None:
    """A long run."""
    folder.mkdir()
    (folder / "config.yaml").write_text("env: {track: hillside}\nalgorithm: {}\n")
    for number in range(NUM_ROWS):
        append_line(folder / "metrics.jsonl", metrics_row(number))
    for number in range(NUM_EVALUATIONS):
        row = {"track": "hillside", "frames": 25_600 * number, "seconds": 17.0 * number, "lap_times_s": [30.0] * 16}
        append_line(folder / "evaluations.jsonl", {**row, "best_lap_s": 29.0, "median_lap_s": 30.0, "finish_rate": 1.0})


def metrics_row(number: int) -> dict[str, float]:
    """One row of metrics."""
    values = {f"train/value_{k}": random.random() for k in range(NUM_VALUES)}
    return {"frames": 5120 * number, "seconds": 3.5 * number, "train/loss": random.random(), **values}


def watching(server: Server, run: Path, *, looks: int, grows: bool) -> float:
    """Share of a core that the server takes while a page looks at a run."""
    state = server.ask("run?run=1")
    begin, cpu_s = time.perf_counter(), server.cpu_s()
    for number in range(looks):
        if grows:
            append_line(run / "metrics.jsonl", metrics_row(NUM_ROWS + number))
        state = server.ask("run?run=1", state=state)
        if number % 3 == 0:  # the list of runs
            server.ask("runs")
        time.sleep(LOOK_S)
    return (server.cpu_s() - cpu_s) / (time.perf_counter() - begin)


def driving(server: Server, *, changes: int) -> tuple[list[float], float]:
    """Delays in ms from a change of the keys to the car, and the share of a core that the server takes."""
    stream = http.client.HTTPConnection(server.host)
    stream.request("GET", f"/{server.token}/api/race?track=hillside")
    race: list[str] = []
    felt: dict[int, float] = {}

    def listen() -> None:
        for line in stream.getresponse():
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                if isinstance(event, list):
                    felt.setdefault(event[0], time.perf_counter())
                elif "race" in event:
                    race.append(event["race"])

    threading.Thread(target=listen, daemon=True).start()
    while not felt:
        time.sleep(0.01)
    server.ask("keys", body={"race": race[0], "held": 1, "turn": 1})
    delays, begin, cpu_s = [], time.perf_counter(), server.cpu_s()
    for turn in range(2, changes + 2):
        time.sleep(0.05 + 0.03 * random.random())  # at any time of a tick
        sent = time.perf_counter()
        server.ask("keys", body={"race": race[0], "held": 1 + 4 * (turn % 2), "turn": turn})
        while turn not in felt:
            time.sleep(0.0005)
        delays.append(1000.0 * (felt[turn] - sent))
    return sorted(delays), (server.cpu_s() - cpu_s) / (time.perf_counter() - begin)


def seen(address: str, window: tuple[int, int], *, changes: int) -> list[float]:
    """Milliseconds from changes of the keys to the pictures that show the car after them, in a window."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": window[0], "height": window[1]})
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("#ghosts .chip:has-text('author')")
        page.focus("#view")
        page.keyboard.press("d")
        page.wait_for_selector("#banner:has-text('Press an arrow key')")
        page.keyboard.down("ArrowUp")
        for change in range(changes // 2):
            key = ("ArrowRight", "ArrowLeft")[change % 2]
            page.keyboard.down(key)
            page.wait_for_timeout(230)
            page.keyboard.up(key)
            page.wait_for_timeout(130)
        page.keyboard.up("ArrowUp")
        page.wait_for_timeout(1500)
        delays = [float(value) for value in (page.get_attribute("#view", "data-latency") or "").split()]
    return sorted(delays)


def cpu_s_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def starting(run: Path, *, rounds: int) -> list[float]:
    """CPU seconds until the page of ``live=true`` serves; without the first, which also starts the fork server."""
    multiprocessing.set_start_method("forkserver", force=True)  # as in tm-torchrl train with worker processes
    found = []
    for _ in range(rounds + 1):
        page = PageProcess(run)
        while page.address() is None:
            time.sleep(0.01)
        found.append(cpu_s_of(page._process.pid))
        page.close()
    return sorted(found[1:])


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, default=15, help="for each kind of run")
    parser.add_argument("--changes", type=int, default=200, help="of the keys")
    parser.add_argument("--start", action="store_true", help="measure only the start of the page of live=true")
    parser.add_argument("--browser", type=Path, metavar="RUN", help="measure only from key to picture, beside this run")
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    arguments = parser.parse_args()
    if arguments.browser is not None:
        server = Server(arguments.browser)
        medians = {}
        try:
            for window in WINDOWS:
                delays = seen(f"http://{server.host}/{server.token}/", window, changes=50)
                medians["x".join(map(str, window))] = round(statistics.median(delays), 1)
        finally:
            server.process.terminate()
        print(f"median ms from key to picture: {medians}")
        if arguments.write:
            facts = {**describe_run(device="cpu"), "median_ms": medians}
            print("wrote", write_results("live_browser_cpu", facts, folder=arguments.results))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        make_run(run)
        if arguments.start:
            spent = starting(run, rounds=5)
            print(f"CPU seconds until the page serves: {spent}")
            if arguments.write:
                facts = {**describe_run(device="cpu"), "start_cpu_s": spent}
                print("wrote", write_results("live_start_cpu", facts, folder=arguments.results))
            return
        server = Server(run)
        try:
            shares = {
                f"share_of_a_core_{name}": round(watching(server, run, looks=arguments.looks, grows=grows), 4)
                for name, grows in (("resting", False), ("growing", True))
            }
            delays, share = driving(server, changes=arguments.changes)
        finally:
            server.process.terminate()
    found = {
        **shares,
        "share_of_a_core_driving": round(share, 4),
        "delay_median_ms": round(statistics.median(delays), 1),
        "delay_95_ms": round(delays[int(0.95 * len(delays))], 1),
        "delay_most_ms": round(delays[-1], 1),
    }
    print(json.dumps(found, indent=2))
    if arguments.write:
        print("wrote", write_results("live_cpu", {**describe_run(device="cpu"), **found}, folder=arguments.results))


if __name__ == "__main__":
    main()
