"""WCAG 2 AA: every colour that we choose, against the backgrounds that it stands on, light and dark."""

import re
from importlib.resources import files

import pytest

from dashboard import colors
from dashboard.__main__ import OPTIONS
from tests.unit.dashboard.test_colors import contrast

TEXT, GRAPHICS = 4.5, 3.0
CAPTION = 0.6
"""Streamlit's captions and labels are the text colour at this opacity."""


def theme(name):
    return {key.rpartition(".")[2]: value for key, value in OPTIONS.items() if key.startswith(f"theme.{name}.")}


def backgrounds(name):
    return theme(name)["backgroundColor"], theme(name)["secondaryBackgroundColor"]


def mixed(color, under, share):
    parts = [(int(color[at : at + 2], 16), int(under[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * top + (1 - share) * below):02x}" for top, below in parts)


@pytest.mark.parametrize(("name", "side"), [("light", 0), ("dark", 1)])
def test_lines_are_seen_on_both_backgrounds(name, side):
    of_channels = (colors.INFORMATIVE, colors.SPURIOUS, colors.POLICY, *colors.SHADES[:3])
    for color in (*colors.RUNS, *colors.BENCHMARKS, *of_channels):
        for background in backgrounds(name):
            assert contrast(color[side], background) >= GRAPHICS, (color[side], background)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_captions_and_links_are_readable(name):
    text, primary = theme(name)["textColor"], theme(name)["primaryColor"]
    for background in backgrounds(name):
        assert contrast(text, background) >= TEXT
        assert contrast(mixed(text, background, CAPTION), background) >= TEXT
        assert contrast(primary, background) >= TEXT


def test_what_stands_on_the_primary_colour_is_readable():
    """Tags of a choice and primary buttons."""
    page = (files("dashboard") / "app.py").read_text("utf-8")
    light, dark = re.search(r"light-dark\((#\w+), (#\w+)\)", page).groups()
    assert contrast(light, theme("light")["primaryColor"]) >= TEXT
    assert contrast(dark, theme("dark")["primaryColor"]) >= TEXT


@pytest.mark.parametrize("sheet", ["chart.css", "tools.css"])
def test_text_of_charts_is_readable(sheet):
    rules = re.findall(r"([^{}]+){([^}]*)}", (files("dashboard.chart") / sheet).read_text("utf-8"))
    found = [(".dark" in selector, *re.findall(r"(?<![-\w])color: (#\w{6})", body)) for selector, body in rules]
    checked = [(dark, color) for dark, *chosen in found for color in chosen]
    assert len(checked) >= 4
    for dark, color in checked:
        for background in backgrounds("dark" if dark else "light"):
            assert contrast(color, background) >= TEXT, (sheet, color, background)
