"""Emulators and clients leave nothing behind, whether they end normally or are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tm_torchrl.game import GameError
from tm_torchrl.game.emulator import __main__ as emulator_module
from tm_torchrl.game.emulator.__main__ import main
from tm_torchrl.game.emulator.process import EmulatorLauncher
from tm_torchrl.game.tmi1 import channel as channel_module
from tm_torchrl.game.tmi1.channel import Channel, free_name, remove_left_behind
from tm_torchrl.game.tmi1.client_lock import ClientLock

posix = pytest.mark.skipif(sys.platform == "win32", reason="channels are files on POSIX only")


def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@posix
def test_the_memory_of_a_hanging_emulator_is_removed() -> None:
    emulator = EmulatorLauncher("oval", protocol=1).launch(0)
    path = channel_module._folder() / str(emulator.address)
    assert path.is_file()
    os.kill(emulator.pid, signal.SIGSTOP)  # it cannot remove it itself any more
    emulator.stop()
    assert not emulator.is_running
    assert not path.exists()


@posix
@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_an_emulator_in_order(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number, stopped = getattr(signal, how), []
    server = SimpleNamespace(
        address="nowhere", serve=lambda: os.kill(os.getpid(), number), stop=lambda: stopped.append(how)
    )
    monkeypatch.setattr(emulator_module, "make_server", lambda options: server)
    before = [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGHUP)]
    try:
        main([])
    finally:
        for each, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(each, handler)
    assert stopped == [how]


@posix
def test_a_new_emulator_removes_only_what_killed_ones_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_folder", lambda: tmp_path)
    dead = dead_pid()
    served = Channel(f"TMInterface{dead}_beef", is_server=True)  # as if of another container, where the number lives
    kept = [f"TMInterface{os.getpid()}_12", "TMInterface0", f"TMInterface{dead}", f"TMInterface{dead}_x", "other_1"]
    for name in [*kept, f"TMInterface{dead}_0123abcd", f"TMInterface{dead}_77"]:
        (tmp_path / name).write_bytes(b"")
    name = free_name()
    assert {path.name for path in tmp_path.iterdir()} == {*kept, served.name}
    assert name not in kept and name != free_name()
    assert not remove_left_behind(served.name)
    served.close()
    assert not remove_left_behind(served.name), "there is none any more"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_channel_has_one_client_and_the_lock_leaves_no_file(folder: Path) -> None:
    first = ClientLock("TMInterface0")
    with pytest.raises(GameError, match="another client drives the game at TMInterface0"):
        ClientLock("TMInterface0")
    other = ClientLock("TMInterface1")
    first.release()
    second = ClientLock("TMInterface0")
    second.release()
    other.release()
    assert list(folder.iterdir()) == []


@posix
def test_a_lock_whose_file_is_removed_while_it_is_taken_is_taken_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    first, lock = ClientLock("TMInterface0"), fcntl.flock
    leaving = [first]

    def flock(file: int, how: int) -> Any:
        if leaving:
            leaving.pop().release()  # removes the file that the next one has just opened
        return lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    second = ClientLock("TMInterface0")
    assert len(list(folder.iterdir())) == 1
    with pytest.raises(GameError, match="another client"):
        ClientLock("TMInterface0")
    second.release()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--track", "ovel", "--port", "0"], "cannot emulate track 'ovel' at 127.0.0.1:0: .*\\boval\\b"),
        (["--track", "oval", "--port", "70000"], "cannot emulate track 'oval' at 127.0.0.1:70000: port=70000: "),
        (
            ["--track", "oval", "--protocol", "1", "--channel", "a/b"],
            "cannot emulate track 'oval' at a/b: channel='a/b': ",
        ),
    ],
)
def test_a_failed_start_is_reported_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    words = capsys.readouterr().err
    assert re.match(f"error: {message}", words), words
    assert words.count("\n") == 1
