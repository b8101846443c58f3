"""Requests to a training are files that it deletes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tm_torchrl.record.requests import ask, asked_for


def test_each_request_is_seen_once(tmp_path: Path) -> None:
    assert asked_for(tmp_path) == []
    ask(tmp_path, "evaluate")
    ask(tmp_path, "stop")
    ask(tmp_path, "stop")
    assert asked_for(tmp_path) == ["stop", "evaluate"]
    assert asked_for(tmp_path) == [] == list(tmp_path.iterdir())


def test_other_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"what='\.\./stop'"):
        ask(tmp_path, "../stop")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "please_stop").symlink_to(tmp_path / "elsewhere")
    ask(tmp_path / "run", "stop")
    assert not (tmp_path / "elsewhere").exists()
    assert asked_for(tmp_path / "run") == ["stop"]


def test_a_folder_that_is_gone_asks_for_nothing(tmp_path: Path) -> None:
    assert asked_for(tmp_path / "gone") == []
