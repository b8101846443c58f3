"""Pages of the site that are not files in docs/: the README, the benchmarks, the examples, sources, and the API.

MkDocs sees only docs/, while links of the pages point to all of the repository, so that they work where the repository
is browsed. These hooks add what is linked to the site and turn the links, so that they work on both.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ADDED = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/README.md",
    "benchmarks/README.md",
    "benchmarks/speed.md",
)
ROOMS = (
    *("envs", "tracks", "sim", "world", "game", "tasks"),
    *("modules", "objectives", "data", "collectors", "algorithms", "trainers", "agents", "evaluation", "record"),
)
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
SOURCE = '---\nsearch: {{exclude: true}}\n---\n# {0}\n\n```{1} linenums="1"\n{2}\n```\n'


def in_repository(page: str) -> str:
    """The file in the repository that a page of the site is made from."""
    if page == "index.md":
        return "README.md"
    return page if page in ADDED else f"docs/{page}"


def site_path(path: str) -> str:
    """The page or file of the site that is made from a file in the repository."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.endswith((".md", ".png", ".gif", ".svg")) else f"source/{path}.md"


def links(page: str, text: str) -> Iterator[str]:
    """Files in the repository that a page links."""
    for _, link, _ in LINK.findall(text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        if (ROOT / path).is_file():
            yield path


def public_names(room: str) -> list[str]:
    """Where the public names of a room are defined: ``tm_torchrl.objectives.iqn.IQNLoss``."""
    tree = ast.parse((ROOT / "tm_torchrl" / room / "__init__.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [f"{node.module}.{name.name}" for node in imports if node.module.count(".") > 1 for name in node.names]


def api_page(room: str) -> str:
    """A page with everything public of a room."""
    text = ast.get_docstring(ast.parse((ROOT / "tm_torchrl" / room / "__init__.py").read_text("utf-8")))
    names = "\n\n".join(f"::: {name}" for name in public_names(room))
    return f"# `tm_torchrl.{room}`\n\n{text}\n\n{names}\n"


def source_page(path: str) -> str:
    """A page that shows a source file, or the cells of a notebook."""
    text = (ROOT / path).read_text("utf-8").rstrip()
    if path.endswith(".ipynb"):
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(f"```python\n{cell}\n```" if kind == "code" else cell for kind, cell in cells)
    return SOURCE.format(path, {".py": "python", ".yaml": "yaml"}.get(Path(path).suffix, "text"), text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Draw fences ``math`` as MathML, which browsers show without a script."""

    def drawn(source: str, *_: object, **__: object) -> str:
        return f'<div class="equation">{convert(source.strip(), display="block")}</div>'

    fence = {"name": "math", "class": "math", "format": drawn}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the site has besides docs/."""
    pages = {path: (ROOT / path).read_text("utf-8") for path in ADDED}
    linked = {link for path, text in pages.items() for link in links(path, text)}
    for file in files.documentation_pages():
        linked.update(links(in_repository(file.src_uri), file.content_string))
    for path in sorted(linked | set(ADDED)):
        if path.startswith("docs/"):
            continue
        page = site_path(path)
        if page.startswith("source/"):
            files.append(File.generated(config, page, content=source_page(path)))
        else:
            files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for room in ROOMS:
        files.append(File.generated(config, f"api/{room}.md", content=api_page(room)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links into those of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(in_repository(here))

    def turned(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, found[2]))
        if not (ROOT / path).is_file():
            return found[0]
        return f"{found[1]}{posixpath.relpath(site_path(path), posixpath.dirname(here) or '.')}{found[3] or ''})"

    return LINK.sub(turned, markdown)
