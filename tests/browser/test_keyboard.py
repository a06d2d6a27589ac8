"""The dashboard without a mouse: everything is reached by keys, and one sees where one is."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard.views.run import SECTIONS
from tests.browser.conftest import walk

pytestmark = pytest.mark.browser

FOCUS_SHOWS = Path(__file__).with_name("focus_shows.js").read_text()
STOPS = 80
"""More than any page has."""


def settled(page):
    expect(page.locator("[data-testid=stMain] :is(h1, h2)").first).to_be_visible()
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()


def go_to(page, selector, key="Tab"):
    """Press the key until an element that matches has the focus."""
    for _ in range(STOPS):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no stop is {selector}")


def cell(page):
    """The table's chosen cell. Its table for screen readers follows the drawn one a moment later."""
    return page.locator("[data-testid=stDataFrame] [role=gridcell]:focus")


def test_a_run_is_opened_read_and_nearly_cancelled_by_keys_alone(page, stack, api, runs):
    page.goto(stack.url)
    settled(page)
    expect(page.locator("[data-testid=stDataFrame] [role=gridcell]").first).to_be_attached()
    go_to(page, "[data-testid=stDataFrame] canvas, [role=gridcell]")
    expect(cell(page)).to_have_attribute("aria-colindex", "1")

    # Its star pins a run; a row below, another one's name opens it, however fast the keys come.
    star = cell(page).text_content()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"pin=job_\w*{star[-8:]}$"))
    expect(cell(page)).to_have_text(star.replace("☆", "★"))
    rows = page.locator("[data-testid=stDataFrame] [role=gridcell][aria-colindex='2']")
    name, _, tail = rows.nth(1).text_content().rpartition(" · ")
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page).to_have_url(re.compile(rf"/run\?job=job_\w*{tail}"))

    settled(page)
    go_to(page, "[role=radio]")
    for section in SECTIONS[1:]:
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        expect(page).to_have_url(re.compile(f"section={section}"))
        expect(page.get_by_role("radio", name=section)).to_be_checked()
        settled(page)

    go_to(page, "[class*=st-key-do-cancel] button", "Shift+Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Cancel {name}?")
    assert page.evaluate("document.querySelector('[role=dialog]').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert {api.job(job_id)["status"] for job_id in runs.ids} == {"running"}


def test_groups_of_rollouts_are_walked_by_keys_wherever_the_focus_is(page, stack, runs):
    page.goto(f"{stack.url}/run?job={runs.ids[0]}&section=Rollouts&step=3")
    expect(page.get_by_text("Group 1 · data row")).to_be_visible()
    settled(page)
    go_to(page, "[role=radio]")
    walk(page, "n", "Group 2 · data row")
    walk(page, "n", "Group 3 · data row")
    walk(page, "p", "Group 2 · data row")


@pytest.mark.parametrize("address", ["", "compare?jobs={0},{1}", "submit"], ids=["runs", "compare", "submit"])
def test_one_sees_where_one_is_and_comes_to_the_end_of_the_page(page, stack, runs, address):
    page.goto(f"{stack.url}/{address.format(*runs.ids)}")
    settled(page)
    page.add_style_tag(content="* { transition: none !important; }")
    seen = []
    while len(seen) < STOPS:
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUS_SHOWS)
        if found is None:
            break
        seen.append(found)
    assert 20 < len(seen) < STOPS, seen
    assert [what for what, shows in seen if not shows] == []
