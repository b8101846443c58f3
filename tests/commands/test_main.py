"""The console command finds its parts and names what is wrong."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tm_torchrl.commands.main import COMMANDS, main
from tm_torchrl.invocation import SCRIPTS, command

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_main_and_a_script(name: str) -> None:
    assert callable(importlib.import_module(f"tm_torchrl.commands.{name.replace('-', '_')}").main)
    assert (ROOT / "scripts" / f"{SCRIPTS.get(name, name.replace('-', '_'))}.py").is_file()


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


def test_commands_are_shown_as_they_were_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/train_iqn.py"])
    assert command("train") == "python scripts/train_iqn.py"
    assert command("import-track") == "python scripts/import_track.py"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tm-torchrl"])
    assert command("train") == "tm-torchrl train"
