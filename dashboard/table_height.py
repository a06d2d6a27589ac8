"""How high a table is: all of its rows where they fit, else so many pixels and it scrolls."""

from typing import Literal

ROW = 33
"""Pixels, with the font that the dashboard has; the heading is as high."""


def height(rows: int, most: int) -> int | Literal["content"]:
    return "content" if ROW * (rows + 1) <= most else most
