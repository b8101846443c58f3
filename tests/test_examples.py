"""Every example runs, for some frames instead of minutes."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOREIGN = ("stable_baselines3", "sb3_contrib", "tianshou", "torchvision")  # what an example may need, and we do not
COMMANDS = [  # each example, and the further commands at its top
    pytest.param(path.name, words, id=f"{path.stem}{words}")
    for path in sorted((ROOT / "examples").glob("*.py"))
    for words in [
        "",
        *sorted(set(re.findall(r"^python \S+ .*?( --algorithm \w+)", path.read_text("utf-8"), flags=re.M))),
    ]
]


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_example_runs(name: str, words: str, script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (ROOT / "examples" / name).read_text("utf-8")
    for package in FOREIGN:
        if re.search(rf"^(?:from|import) {package}\b", text, flags=re.M) and find_spec(package) is None:
            pytest.skip(f"needs {package}")
    monkeypatch.chdir(tmp_path)
    done = script(f"examples/{name}", "--frames", 256, "--seed", 1, *words.split())
    assert done.returncode == 0
    assert done.stdout.strip()
