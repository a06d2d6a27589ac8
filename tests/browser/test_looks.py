"""How every page looks, at the widths and in the themes that we promise: nothing cut off, nothing on top of another,
everything readable.
"""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import CONTRAST
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

WIDTHS = (1280, 1920, 2560)
SECTIONS = ("Overview", "Exploration", "Groups", "Coverage", "Optimisation", "System", "Rollouts", "Events")
PAGES = {
    "runs": "runs",
    **{f"run, {section}": f"run?job={{0}}&section={section}" for section in SECTIONS},
    "compare": "compare?jobs={0},{1}",
    **{path: path for path in ("submit", "sweeps", "playground", "datasets", "queue", "workers", "team")},
}
SIDEWAYS = """() => [document.scrollingElement, document.querySelector("[data-testid=stMain]")]
    .filter((node) => node.scrollWidth > node.clientWidth)
    .map((node) => `${node.tagName} ${node.scrollWidth} > ${node.clientWidth}`)"""
ON_TOP = """() => {
    const seen = [...document.querySelectorAll("[data-testid=stMain] :is(button, h1, h2, h3, [data-testid=stMetric])")]
        .map((node) => [node, node.getBoundingClientRect()])
        .filter(([node, box]) => node.innerText && box.width > 0 && !node.closest("[data-testid=stElementToolbar]"));
    const found = [];
    seen.forEach(([one, a], i) => seen.slice(i + 1).forEach(([other, b]) => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && high > 2 && !one.contains(other) && !other.contains(one))
            found.push(`${one.innerText} / ${other.innerText}`);
    }));
    return found;
}"""


def settled(page):
    expect(page.locator("[data-testid=stMain] :is(h1, h2)").first).to_be_visible()
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0)


def finds_nothing(page, script):
    """What is faded while it is being refreshed is not a moment later."""
    wait_until(lambda: page.evaluate(script) == [], 10, lambda: f"nothing of {page.evaluate(script)}")


@pytest.mark.parametrize("address", PAGES.values(), ids=PAGES)
def test_a_page_fits_its_window_and_can_be_read(page, stack, runs, address):
    page.emulate_media(color_scheme="light")
    page.goto(f"{stack.url}/{address.format(*runs.ids)}")
    settled(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        finds_nothing(page, SIDEWAYS)
        finds_nothing(page, ON_TOP)
    finds_nothing(page, CONTRAST)
    page.emulate_media(color_scheme="dark")
    page.reload()
    settled(page)
    finds_nothing(page, CONTRAST)
