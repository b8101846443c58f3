"""The notebook's cells run one after the other, with trainings of some steps instead of minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

NOTEBOOK = json.loads((ROOT / "examples" / "five_minutes.ipynb").read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SHORTER = {
    'IQN("hillside").train(minutes=3)': 'IQN("hillside", settings=SHORT).train(frames=1024)',
    'DPO("hillside").train(minutes=0.5)': 'DPO("hillside", settings=SHORT).train(frames=1024)',
    "laps=20": "laps=2",
    "laps=8": "laps=1",
    "len(rows), 4": "9, 4",
}
PREFIX = """
import sys, types
shown = types.ModuleType("IPython.display")
shown.Image, shown.version_info = (lambda filename: print("image", filename)), (9, 0)
sys.modules["IPython"] = sys.modules["IPython.display"] = shown
SHORT = ["env.evaluation_limits.race_s=2", "evaluation.num=2", "collector=single", "log.tensorboard=false"]
"""


def program() -> str:
    """All cells, without their magic commands, shortened."""
    lines = "\n\n".join(CODE).splitlines()
    text = "\n".join(line for line in lines if not line.startswith("%"))
    for long, short in SHORTER.items():
        assert text.count(long) == 1, long
        text = text.replace(long, short)
    return PREFIX + text


def test_all_cells_run(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text(program(), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "image lap.gif" in done.stdout and (tmp_path / "lap.gif").is_file()
    assert len(list(tmp_path.glob("runs/**/report.html"))) == 2


@pytest.mark.parametrize("cell", NOTEBOOK["cells"], ids=lambda cell: cell["id"])
def test_cells_are_committed_without_output(cell: dict) -> None:
    assert not cell.get("outputs") and cell.get("execution_count") is None
