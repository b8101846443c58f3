"""Every command that a page shows is one that the program would accept."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks
from tm_torchrl.settings import compose_settings

LEFT_OUT = (
    "docs/extending.md",  # tests/test_extending.py runs its commands, with the reader's own parts
    "CHANGELOG.md",  # what was
)


def commands(text: str) -> list[str]:
    """Commands in shell blocks, and those with arguments within lines; without comments."""
    shell = "\n".join(code for language in ("bash", "powershell") for code in blocks(text, language))
    lines = re.sub(r"\\\n\s*", "", shell).splitlines()
    lines += re.findall(r"`(tm-torchrl [\w-]+ [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = (re.search(r"(?:^|&& )(tm-torchrl .*)", line.strip()) for line in lines)
    return [re.sub(r"\s+#.*", "", match[1]).strip() for match in found if match]


SHOWN = sorted({line for name, text in PAGES.items() if name not in LEFT_OUT for line in commands(text)})


class ParsedError(Exception):
    """The words were understood."""


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end when their words are parsed, and any RUN exists."""
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)

        def parse(parser: argparse.ArgumentParser, *args: object, original=original) -> argparse.Namespace:
            original(parser, *args)
            raise ParsedError

        monkeypatch.setattr(argparse.ArgumentParser, name, parse)
    monkeypatch.setattr("tm_torchrl.commands.parser.find_run", Path)


def check(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, *words = shlex.split(line)
    if name.startswith("-"):
        return
    if name != "train":
        monkeypatch.setattr(sys, "argv", ["tm-torchrl", *words])
        with pytest.raises(ParsedError):
            importlib.import_module(f"tm_torchrl.commands.{name.replace('-', '_')}").main()
    elif "--help" not in words:
        several = re.compile(r"(\w+)=[^\[{]*,.*")  # of -m seed=0,1,2
        words = [several.sub(r"\1=0", word) for word in words if word != "-m"]
        compose_settings([word for word in words if not word.startswith("resume=") and word != "SETTINGS"])


def test_there_are_commands_to_look_at() -> None:
    assert {shlex.split(line)[1] for line in SHOWN} >= {"train", "evaluate", "watch", "live", "record", "doctor"}
    assert len(SHOWN) > 70


@pytest.mark.parametrize("line", SHOWN)
def test_commands_are_understood(line: str, parse_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    check(line, monkeypatch)


@pytest.mark.parametrize(
    "line", ["tm-torchrl train objectiv=iqn", "tm-torchrl evaluate RUN --lap 3 4", "tm-torchrl train env.trak=oval"]
)
def test_a_wrong_command_is_found(line: str, parse_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((ValueError, SystemExit)):
        check(line, monkeypatch)
