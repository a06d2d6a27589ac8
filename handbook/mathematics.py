"""LaTeX as MathML, when the site is built: no script, no font and no other server has a part in showing a formula.

Inline between dollars, `$p = \\tfrac14$`; displayed in a fenced block of the language `math`. Both are what GitHub
shows as formulas, too, so a page reads the same there.
"""

import re

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\$\w])\$(?=[^\s$])([^$\n]*[^\s$\\])\$(?![\w$])"
"""Between two dollars that touch what they enclose. `$HOME` and `5 $` are no formulas."""


def displayed(source: str, *_: object, **__: object) -> str:
    """A block of the language `math`, for pymdownx.superfences. Every line that is not blank is a formula of its
    own."""
    formulas = [convert(line, display="block") for line in source.splitlines() if line.strip()]
    return f'<div class="math">{"".join(formulas)}</div>'


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # type: ignore[override]  # noqa: N802
        return self.md.htmlStash.store(convert(m.group(1))), m.start(0), m.end(0)


class Mathematics(Extension):
    """Inline formulas."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's name
        # After code spans (190); before escapes (180), which would take the backslashes, and emphasis, the underscores.
        md.inlinePatterns.register(_Inline(INLINE, md), "mathematics", 185)


def makeExtension(**settings: object) -> Mathematics:  # noqa: N802 - what Markdown looks for
    return Mathematics(**settings)
