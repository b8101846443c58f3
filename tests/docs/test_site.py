"""The site of the documentation is built without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("mkdocs", "material", "mkdocstrings", "latex2mathml")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def test_the_readme_is_the_first_page(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    assert "<h1" in page and "tm_torchrl" in page
    assert 'href="training/' in page, "links into docs/ lead to pages of the site"


def test_sources_that_pages_link_are_shown(site: Path) -> None:
    shown = (site / "source" / "examples" / "losses_alone.py" / "index.html").read_text("utf-8")
    assert "IQNLoss" in shown


def test_the_api_shows_signatures_and_docstrings(site: Path) -> None:
    page = (site / "api" / "objectives" / "index.html").read_text("utf-8")
    assert 'id="tm_torchrl.objectives.iqn.IQNLoss"' in page and "num_fractions" in page


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for path in ("index.html", "networks/index.html", "api/objectives/index.html"):
        page = (site / path).read_text("utf-8")
        assert 'src="http' not in page and 'rel="stylesheet" href="http' not in page
