"""The README's tables are those of the committed results, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_up_to_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.update_readme import updated

    assert updated(README) == README, "run python benchmarks/update_readme.py"


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, flags=re.S))
def test_examples_run(code: str):
    exec(compile(code, "README.md", "exec"), {})


def test_files_that_it_names_exist():
    for path in re.findall(r"`((?:scripts|tests|tm_torchrl|benchmarks)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
