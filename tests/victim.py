"""Programs that are killed outright. Imports are paid once where processes can fork."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_SERVER = """
import json, os, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
import tests.data.counting_steps, tm_torchrl.data.saving.replay_log
tests.data.counting_steps.build(), tm_torchrl.data.saving.replay_log
for line in sys.stdin:
    pid = os.fork() if hasattr(os, "fork") else 0
    if pid == 0:
        print("ready", os.getpid(), flush=True)
        exec(json.loads(line), dict(__name__="__main__"))
        os._exit(1)
    os.waitpid(pid, 0)
    print("\\ndead", flush=True)  # on a line of its own, even if the process was killed while it printed
"""


def kill_after(program: str, seconds: float) -> list[str]:
    """Lines that an endless program printed before it was killed, ``seconds`` after its imports."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(program) + "\n")
    server.stdin.flush()
    pid = None
    while pid is None:  # torchrl logs there too
        words = server.stdout.readline().split()
        assert words or server.poll() is None
        pid = int(words[1]) if words[:1] == ["ready"] else None
    time.sleep(seconds)
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows both end a process at once
    if not hasattr(os, "fork"):
        _server.cache_clear()
        return server.communicate()[0].splitlines()
    lines: list[str] = []
    while not lines or lines[-1] != "dead":
        line = server.stdout.readline()
        assert line, "the server died"
        lines.append(line.strip())
    return lines[:-1]


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(root=str(ROOT))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    if server.poll() is None:
        server.kill()
        server.communicate()
