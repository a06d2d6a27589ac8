"""What MkDocs calls while it builds the site (mkdocs.yml names this file).

It adds the generated reference and the repository's files that pages link to.
"""

import sys
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# MkDocs loads this file by its path and not as a part of a package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from handbook import links
from handbook.reference import PAGES


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for address, write in PAGES.items():
        files.append(File.generated(config, address, content=write()))
    waiting = [(PurePosixPath(file.src_uri), file.content_string) for file in files.documentation_pages()]
    seen: set[PurePosixPath] = set()
    for page, text in waiting:
        for path in links.leaving(text, page).values():
            if path not in seen:
                seen.add(path)
                _show(path, files, config)
    return files


def _show(path: PurePosixPath, files: Files, config: MkDocsConfig) -> None:
    content = links.shown(path)
    if path.suffix == ".md" and isinstance(content, str):
        # Its own links are relative to where it lies in the repository, most of which the site does not have.
        content = links.without_links(content)
    files.append(File.generated(config, links.shown_at(path), content=content))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return links.rewritten(markdown, PurePosixPath(page.file.src_uri))
