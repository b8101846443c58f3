"""The study of faults, made short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.collectors.test_supervised import needs_ray, posix

pytestmark = [needs_ray, posix]
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_a_training_goes_on_through_kills_stops_and_a_node_that_ends(tmp_path: Path) -> None:
    """Each kind of fault at least once; what was requested and neither delivered nor in flight is one for a restart."""
    program = [sys.executable, "benchmarks/studies/ray_faults.py", "--faults", "6", "--workers", "2"]
    subprocess.run([*program, "--write", "--results", str(tmp_path)], cwd=ROOT, check=True, timeout=3000)
    found = json.loads((tmp_path / "ray_faults.json").read_text())
    assert "error" not in found
    assert {fault["kind"] for fault in found["faults"]} == {"kill", "stop", "pause", "node"}
    assert 0 <= found["lost"] <= found["restarts"] + 2
    assert found["frames"] > 0 and found["updates"] > 0
