"""The page for people who come from elsewhere names commands and settings that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tm_torchrl.commands.main import COMMANDS
from tm_torchrl.settings import compose_settings

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
BASES = (["experiment=linesight"], ["replay=prioritized"], ["env=game", "game=tmi2"], ["collector=multi_sync"])


def table(title: str) -> list[list[str]]:
    """Rows of the first table below a heading, each the text between backquotes in its last column."""
    text = PAGE.split(f"\n### {title}\n")[1].split("\n#")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    return [re.findall(r"`([^`]+)`", row[-1]) for row in rows]


@cache
def composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose_settings(list(overrides))


def has(settings: Any, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(settings, dict) or part not in settings:
            return False
        settings = settings[part]
    return True


NAMES = sorted({word for row in table("Settings") for word in row if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", word)})
CHOICES = [word for title in ("Settings", "The game") for row in table(title) for word in row if "=" in word]


def test_the_page_has_settings_to_look_at() -> None:
    assert len(NAMES) > 25
    assert len(CHOICES) > 10


@pytest.mark.parametrize("name", NAMES)
def test_settings_exist(name: str) -> None:
    known = [composed(tuple(base)) for base in BASES]
    known += [{"env": {"game": {}}, "game": composed(tuple(BASES[2]))["env"]["game"]}]
    assert any(has(settings, name) for settings in known)


@pytest.mark.parametrize("choice", CHOICES)
def test_choices_compose(choice: str) -> None:
    words = re.findall(r"\+?[\w.]+=(?:\[\[.*\]\]|\[[^]]*\]|\{[^}]*\}|\"[^\"]*\"|\S+)", choice.replace("...", "0.5"))
    if any(word.startswith("game") for word in words) and "env=game" not in words:
        words = ["env=game", *words]
    assert words
    assert compose_settings([word.replace('"', "'") for word in words])


def test_commands_exist() -> None:
    named = set(re.findall(r"tm-torchrl ([\w-]+)", PAGE))
    assert {"import-linesight", "import-track"} <= named <= set(COMMANDS)
