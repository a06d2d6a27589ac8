"""How the documentation is built: `./dev docs` renders docs/ into site/, with a reference that is generated from the
code.

`hooks.py` is what MkDocs calls, `reference/` writes the pages that nobody keeps by hand, `mathematics.py` turns LaTeX
into MathML, `pictures.py` draws the curves of the pages about concepts from `runs.json`, and `blocks.py` finds the
commands that `tests/documentation` runs.
"""
