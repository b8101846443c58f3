"""How the command ``train`` ends."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tm_torchrl.commands.main import run
from tm_torchrl.record.folder_claim import FolderLinksError


def ended(argument: object, monkeypatch: pytest.MonkeyPatch, folder: Path) -> object:
    """The exit status of a command whose training returns or raises this."""

    def train(*arguments: object, **options: object) -> object:
        if isinstance(argument, Exception):
            raise argument
        return argument

    monkeypatch.chdir(folder)
    monkeypatch.setattr("tm_torchrl.trainers.run.train", train)
    monkeypatch.setattr(sys, "argv", ["train_iqn.py"])
    with pytest.raises(SystemExit) as end:
        run("train")
    return end.value.code


def test_a_run_whose_end_is_not_saved_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(SimpleNamespace(problem="the disk is full"), monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err == "error: the end of the run is not saved: the disk is full\n"


def test_links_in_a_run_folder_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(FolderLinksError("run/replay is a link"), monkeypatch, tmp_path) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("starting ...\n", "error: run/replay is a link\n")


@pytest.mark.parametrize("words", [["--config-name", "mine"], ["-cn=mine"], ["--config-path=x", "seed=1"]])
def test_another_root_file_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_iqn.py", *words])
    with pytest.raises(SystemExit):
        run("train")
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {words[0].partition('=')[0]}: ") and "--config-dir" in shown
