"""The site is built without a warning, every page is reached, and showing it asks nobody else for anything."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from handbook import pictures
from handbook.reference import PAGES
from handbook.reference.commands import paths
from handbook.reference.settings import ELSEWHERE, variables
from trainer.spec.metric_keys import METRICS
from trainer.spec.presets import PRESETS

ROOT = Path(__file__).parents[2]
LOADS = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}
"""What a browser fetches by itself."""
NOT_FETCHED = {"canonical", "prev", "next", "edit"}


class Page(HTMLParser):
    """What of a page leads elsewhere, and where one can be led to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.words = path.read_text()
        self.feed(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and (href := found.get("href")):
            self.links.append(href)
        address = found.get(LOADS.get(tag, ""))
        if address and (found.get("rel") or "") not in NOT_FETCHED:
            self.loaded.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `./dev docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert built.returncode == 0, built.stdout + built.stderr
    assert built.stdout + built.stderr == ""
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_internal_link_leads_to_a_page_and_a_place_in_it_and_every_picture_is_there(
    site: Path, pages: dict[Path, Page]
) -> None:
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, for wherever it is shown
            continue
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
            ):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        foreign = [address for address in page.loaded if urlsplit(address).netloc]
        assert foreign == [], path
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_formulas_are_mathml(site: Path, pages: dict[Path, Page]) -> None:
    concepts = pages[site / "concepts.html"].words
    assert concepts.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') >= 6
    assert concepts.count("<math") > 30
    assert not re.search(r"\$[^$<]{1,40}\\", concepts)
    assert "math/tex" not in concepts


def test_the_reference_has_all_that_the_code_has(site: Path, pages: dict[Path, Page]) -> None:
    def words(page: str) -> str:
        return pages[site / f"reference/{page}.html"].words

    assert {address.replace(".md", ".html") for address in PAGES} <= {str(path.relative_to(site)) for path in pages}
    assert all(f"<code>{metric.template}</code>" in words("metrics") for metric in METRICS)
    assert all(f"<code>{preset}</code>" in words("presets") for preset in PRESETS)
    commands = words("commands")
    for path in paths():
        assert f'id="{"-".join(path)}"' in commands, path
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}</code>" in words("http"), path
    for field in ("beta_pos", "dynamic_sampling_rounds", "gpu_memory_utilization", "keep_best", "threshold"):
        assert f"<code>{field}</code>" in words("spec")


def test_every_setting_that_code_reads_is_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    listed = {*variables().values(), *(name for each in ELSEWHERE.values() for name in each)}
    read = set()
    for folder in ("trainer", "store", "api", "worker", "client", "dashboard"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r"ASYM_[A-Z]+(?:_[A-Z]+)*", path.read_text()))
    assert read <= listed
    shown = pages[site / "reference/settings.html"].words
    assert all(f"<code>{name}</code>" in shown for name in listed)


def test_every_page_is_in_the_navigation() -> None:
    """But for those that only others name; a page that is new needs one line in mkdocs.yml."""
    text = re.sub(r"!!python/name:\S+", "''", (ROOT / "mkdocs.yml").read_text())
    config = yaml.safe_load(text)

    def named(nav: object) -> set[str]:
        if isinstance(nav, str):
            return {nav}
        return set().union(*map(named, nav.values() if isinstance(nav, dict) else nav))

    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert written <= named(config["nav"])
    assert named(config["nav"]) - written <= set(PAGES)


def test_the_pictures_are_drawn_from_the_runs(tmp_path: Path) -> None:
    runs = json.loads(pictures.RUNS.read_text())
    assert runs.keys() == pictures.COLORS.keys()
    drawn = pictures.draw(runs, tmp_path)
    for path in drawn:
        assert path.stat().st_size > 10_000
        assert (pictures.IMAGES / path.name).exists()
