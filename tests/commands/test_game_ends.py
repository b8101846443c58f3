"""Commands whose game ends say so in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tm_torchrl.commands.main import run
from tm_torchrl.game.errors import GameGone


@pytest.mark.parametrize("words", [("evaluate",), ("watch", "--fresh"), ("export",)], ids=lambda words: words[0])
def test_a_game_that_ends_is_one_line(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AgentOfAGame:
        def evaluate(self, **options: object) -> list[object]:
            raise GameGone("the game closed the connection")

        @property
        def actor(self) -> object:
            raise GameGone("the game closed the connection")

        task = actor

    home = "agents" if words[0] == "evaluate" else f"commands.{words[0]}"  # evaluate imports it when it needs it
    monkeypatch.setattr(f"tm_torchrl.{home}.load_agent", lambda *arguments, **options: AgentOfAGame())
    monkeypatch.setattr(sys, "argv", ["tm-torchrl", str(tmp_path), *words[1:]])
    with pytest.raises(SystemExit) as end:
        run(words[0])
    assert end.value.code == "error: the game closed the connection"
