"""Every example runs, for some frames instead of minutes, and so does the page about other libraries."""

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


def skip_without_packages(code: str) -> None:
    for package in FOREIGN:
        if re.search(rf"^\s*(?:from|import) {package}\b", code, flags=re.M) and find_spec(package) is None:
            pytest.skip(f"needs {package}")


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_example_runs(name: str, words: str, script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    skip_without_packages((ROOT / "examples" / name).read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    done = script(f"examples/{name}", "--frames", 256, "--seed", 1, *words.split())
    assert done.returncode == 0
    assert done.stdout.strip()


PAGE = (ROOT / "docs" / "other_libraries.md").read_text("utf-8")


BLOCKS = [
    pytest.param(code, marks=pytest.mark.slow if "tianshou" in code else ())  # its import alone takes 10 s
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
]


@pytest.mark.parametrize("code", BLOCKS)
@pytest.mark.filterwarnings("ignore")
def test_page_about_other_libraries(code: str):
    skip_without_packages(code)
    exec(compile(code, "docs/other_libraries.md", "exec"), {})
