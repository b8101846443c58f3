"""The console command finds its parts and names what is wrong."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tm_torchrl.commands.main import COMMANDS, main
from tm_torchrl.invocation import command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_main(name: str) -> None:
    assert callable(importlib.import_module(f"tm_torchrl.commands.{name.replace('-', '_')}").main)


def test_a_misspelt_command_is_told_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tm-torchrl", "evalute"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "did you mean evaluate?" in capsys.readouterr().err


def test_a_command_gets_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tm-torchrl", "report", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="nothing"):
        main()
    assert sys.argv == ["/usr/bin/tm-torchrl", str(tmp_path / "nothing")]


@pytest.mark.parametrize("where", ["on the path", "in a folder below", "nowhere"])
def test_shown_commands_can_be_copied(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "a venv" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(programs) if where == "on the path" else "")
    monkeypatch.chdir(tmp_path)
    if where != "nowhere":
        (programs / "tm-torchrl").touch(0o755)
    shown = {
        "on the path": "tm-torchrl import-track",
        "in a folder below": "'a venv/bin/tm-torchrl' import-track",
        "nowhere": "'a venv/bin/python' -m tm_torchrl import-track",
    }
    assert command("import-track") == shown[where]
