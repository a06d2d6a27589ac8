"""What holds of all pages: they fit into every usual width, and all of their text can be read, in both themes."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from bench.dashboard import contents
from dashboard.places import PLACES
from store.access import Identity, Role
from store.database import Database

pytestmark = pytest.mark.browser

CONTRAST = Path(__file__).with_name("contrast.js").read_text()
WIDTHS = (1280, 1920, 2560)
SIDEWAYS = """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
    .map((node) => node.scrollWidth - node.clientWidth)"""
OVERLAPS = """() => {
    const kinds = "button, h1, h2, [data-testid=stDataFrame], [data-testid^=stBidiComponent]";
    const parts = [...document.querySelectorAll(`[data-testid=stMain] :is(${kinds})`)]
        .filter((node) => node.checkVisibility() && !node.closest("[data-testid=stElementToolbar]"))
        .map((node) => [node, node.getBoundingClientRect()]).filter(([, box]) => box.width > 0 && box.height > 0);
    const found = [];
    for (const [a, one] of parts) for (const [b, two] of parts) {
        if (a === b || a.contains(b) || b.contains(a) || a.compareDocumentPosition(b) & 2) continue;
        const wide = Math.min(one.right, two.right) - Math.max(one.left, two.left);
        const high = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
        if (wide > 2 && high > 2) found.push([a.textContent.slice(0, 40), b.textContent.slice(0, 40)]);
    }
    return found;
}"""


@pytest.fixture(scope="module")
def queries(stack, api):
    """What follows the address of a page that is of a run: one with curves and a long name."""
    me = api.me()
    database = Database(stack.environment["ASYM_DATABASE_URL"])
    made = contents.sweep(
        database, Identity(me["key_id"], me["team_id"], Role.ADMIN), 2, 200, status="succeeded", dataset="ds_0"
    )
    contents.fill(database, made, 200, 2)
    database.dispose()
    ids = [each.job_id for each in made]
    api.edit_job(
        ids[0], name="a-run-with-a-name-that-goes-on-" * 5, tags=["paper", "the-second-table"], notes="w " * 300
    )
    return {"run": f"?job={ids[0]}", "compare": f"?jobs={','.join(ids)}"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", list(PLACES))
def test_a_page_fits_and_is_readable(page, stack, queries, path, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{stack.url}/{path}{queries.get(path, '')}")
    expect(page.get_by_test_id("stMain").locator("h1, h2").first).to_be_visible()
    if path in queries:
        expect(page.locator(".asym-chart[data-builds]")).to_have_count(4)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        assert page.evaluate(SIDEWAYS) == [0, 0], width
        assert page.evaluate(OVERLAPS) == [], width
