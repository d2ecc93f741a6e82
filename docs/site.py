"""What the site has beside docs/: the README as its start, and pages of files that lie elsewhere, links included."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "benchmarks/README.md": "benchmarks.md",
    "helm/sortase/README.md": "chart.md",
    "k8s/README.md": "around-the-chart.md",
}
SOURCES = {page: path for path, page in PAGES.items()}
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    files.append(File.generated(config, "LICENSE.txt", content=(ROOT / "LICENSE").read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    return in_site(markdown, page.file.src_uri)


def in_site(markdown: str, page: str) -> str:
    """The text with links as the site has them; ``page`` is where in docs/ it stands there."""
    source = ROOT / SOURCES.get(page, f"docs/{page}")

    def moved(found: re.Match[str]) -> str:
        target = os.path.normpath(source.parent / found[1])
        path = os.path.relpath(target, ROOT)
        if path == "LICENSE":
            place = "LICENSE.txt"
        elif path in PAGES:
            place = PAGES[path]
        elif path.startswith("docs/"):
            place = path.removeprefix("docs/")
        else:
            return found[0]  # which --strict refuses
        return f"]({os.path.relpath(place, Path(page).parent)}"

    return LINK.sub(moved, markdown)
