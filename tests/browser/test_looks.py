"""How every page looks, at the widths and in the themes that we promise: nothing cut off, nothing on top of another,
everything readable.
"""

import pytest
from playwright.sync_api import expect

from dashboard.views.run import SECTIONS
from tests.browser.conftest import CONTRAST
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

WIDTHS = (1280, 1920, 2560)
PAGES = {
    "runs": "runs",
    **{f"run, {section}": f"run?job={{0}}&section={section}" for section in SECTIONS},
    "compare": "compare?jobs={0},{1}",
    **{path: path for path in ("submit", "sweeps", "playground", "datasets", "queue", "workers", "team")},
    "sweep": "sweeps?sweep={sweep}",
    "sign-in": "runs",
}
SIDEWAYS = """() => [document.scrollingElement, document.querySelector("[data-testid=stMain]")]
    .filter((node) => node.scrollWidth > node.clientWidth)
    .map((node) => `${node.tagName} ${node.scrollWidth} > ${node.clientWidth}`)"""
CUT_OFF = """() => {
    const found = [];
    const outer = (node) => node.parentElement ?? node.getRootNode().host;
    const scrolls = (node) => node.dataset.testid !== "stMain" && /auto|scroll/.test(getComputedStyle(node).overflowX);
    const look = (root) => {
        for (const node of root.querySelectorAll("*")) {
            if (node.shadowRoot) look(node.shadowRoot);
            if (node.closest("canvas, script, style")) continue;
            for (const text of node.childNodes) {
                if (text.nodeType !== Node.TEXT_NODE || !text.data.trim() || !node.checkVisibility()) continue;
                const range = document.createRange();
                range.selectNodeContents(text);
                // What ends in dots where its own box does tells the rest by other means.
                const dots = getComputedStyle(node).textOverflow === "ellipsis";
                const { right } = (dots ? node : range).getBoundingClientRect();
                if (right <= innerWidth + 1) continue;
                let at = node;
                while (at && !scrolls(at)) at = outer(at);
                if (!at) found.push(`${text.data.trim().slice(0, 40)} ends at ${Math.round(right)}`);
            }
        }
    };
    look(document.body);
    return found;
}"""
BACKGROUND = "() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
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


@pytest.fixture(scope="module")
def sweep(api, submit):
    """A sweep that waits: no worker has the label."""
    base = {
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": api.job(submit("waits", 5, resources={"labels": ["none-has-it"]}))["spec"]["data"]["train"]},
        "reward": {"kind": "exact"},
        "resources": {"labels": ["none-has-it"]},
    }
    grid = {"algorithm.beta_pos": [0.0, 0.9], "algorithm.beta_neg": [0.0, 0.4]}
    return api.create_sweep({"name": "betas", "base": base, "search": {"kind": "grid", "parameters": grid}})["id"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_can_be_read(page, stack, runs, sweep, name):
    page.emulate_media(color_scheme="light")
    if name == "sign-in":
        page.set_extra_http_headers({"X-Forwarded-For": "203.0.113.9"})
    page.goto(f"{stack.url}/{PAGES[name].format(*runs.ids, sweep=sweep)}")
    settled(page)
    assert page.get_by_label("API key").count() == (name == "sign-in")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        finds_nothing(page, SIDEWAYS)
        finds_nothing(page, CUT_OFF)
        finds_nothing(page, ON_TOP)
    finds_nothing(page, CONTRAST)
    # As when evening comes over an open page.
    light = page.evaluate(BACKGROUND)
    page.emulate_media(color_scheme="dark")
    wait_until(lambda: page.evaluate(BACKGROUND) != light, what="the dark theme")
    finds_nothing(page, CONTRAST)
