"""Comparing runs as a user does: a link that shows the same elsewhere, small refreshes, files, keys, both themes."""

import csv
import io
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import CONTRAST, HOSTILE

pytestmark = pytest.mark.browser


@pytest.fixture
def compare(page, stack, runs):
    """compare(query="", count=4): the page of the first runs, with its charts drawn."""

    def open_page(query="", count=4):
        page.goto(f"{stack.url}/compare?jobs={','.join(runs.ids[:count])}&keys=group/accuracy,policy/grad_norm{query}")
        # The first chart comes before the rest of the page.
        chart(page, "policy/grad_norm")
        expect(page.locator("[data-testid=stDataFrame] table").last).to_be_attached()
        return chart(page, "group/accuracy")

    return open_page


def chart(page, title):
    found = page.locator(".asym-chart").filter(has=page.locator(".name", has_text=re.compile(f"^{re.escape(title)}$")))
    expect(found).to_have_attribute("data-builds", re.compile("^[1-9]"))
    return found


def look(page):
    """What one sees of every chart: title, legend with colours, what it is over, which part of it."""
    return page.locator(".asym-chart").evaluate_all(
        """charts => charts.map((node) => [
            node.querySelector(".title").textContent,
            [...node.querySelectorAll(".chip")].map((chip) =>
                [chip.children[1].textContent, chip.children[0].style.borderTop]),
            node.querySelector(".plot").getAttribute("aria-label"),
            node.dataset.range ?? "",
            node.querySelector(".outside").textContent,
        ])"""
    )


def test_a_copied_link_shows_the_same_view_in_another_browser(page, compare, chromium, runs):
    compare("&x=tokens&seeds=mean, min to max&clip=true&log=true&smooth=0.5")
    found = chart(page, "policy/grad_norm")
    expect(found.locator(".outside")).to_contain_text("above the axis")
    plot = found.locator(".plot")
    plot.focus()
    page.keyboard.press("+")
    expect(found).to_have_attribute("data-range", re.compile(r"\d"))
    expect(page).to_have_url(re.compile("zoom="))
    other = chromium.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    other.goto(page.url)
    for title in ("group/accuracy", "policy/grad_norm"):
        chart(other, title)
    assert look(other) == look(page)
    ((_, chips, label, zoom, _), _) = look(other)
    assert len(chips) == 4
    assert "over tokens" in label
    assert zoom
    other.context.close()


WHERE_IT_STOOD = """
    window.placesOfFirstChart = [];
    const look = () => {
        const hosts = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")];
        const chart = hosts.map((host) => host.shadowRoot?.querySelector(".asym-chart[data-builds]")).find(Boolean);
        if (chart) window.placesOfFirstChart.push(chart.getBoundingClientRect().top);
        requestAnimationFrame(look);
    };
    look();
"""


@pytest.mark.parametrize("look", ["", "&smooth=0.5&log=true&clip=true&zoom=1,4"])
def test_the_first_chart_comes_before_the_rest_and_stays(page, stack, runs, look):
    page.add_init_script(WHERE_IT_STOOD)
    page.goto(f"{stack.url}/compare?jobs={','.join(runs.ids)}{look}")
    found = chart(page, "group/accuracy")
    found.evaluate("node => { node.seenBefore = true; }")
    expect(found.locator(".chip")).to_have_count(6)
    expect(page.locator("[data-testid=stDataFrame] table").last).to_be_attached()
    expect(page.locator(".asym-chart[data-builds]")).to_have_count(4)
    expect(page.get_by_role("combobox", name="Metrics")).to_be_visible()
    assert found.evaluate("node => node.seenBefore === true"), "the chart was replaced"
    assert found.get_attribute("data-builds") == "1"
    places = page.evaluate("placesOfFirstChart")
    assert max(places) - min(places) < 4, f"it moved while the controls above it came: {sorted(set(places))}"


def test_the_summary_of_four_metrics_has_room_in_the_narrowest_window(page, stack, runs):
    page.goto(f"{stack.url}/compare?jobs={','.join(runs.ids)}&seeds=mean ± s.d.")
    table = page.locator("[data-testid=stDataFrame]").first
    expect(table.locator("th").filter(has_text="± s.d.")).to_have_count(4)
    heads = ["last", "± s.d.", "highest", *(3 * ["last", "± s.d.", "range"])]
    assert table.locator("th").all_text_contents() == ["Run", "Runs", "Status", "Step", *heads]
    wide = "node => [node.scrollWidth, node.clientWidth]"
    scrolled, seen = table.locator(".dvn-scroller").evaluate(wide)
    assert 1000 < scrolled <= seen


def test_a_refresh_brings_the_new_points_and_little_else(page, compare, runs):
    sent = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: sent.append(len(data))))
    found = compare(count=6)
    found.evaluate("node => { node.seenBefore = true; }")
    builds = found.get_attribute("data-builds")
    first = sum(sent)
    updates = int(found.get_attribute("data-updates"))
    sent.clear()
    for number in range(3):
        runs.go_on()
        expect(found).to_have_attribute("data-last", str(runs.last))
        assert int(found.get_attribute("data-updates")) > updates + number
    assert found.evaluate("node => node.seenBefore === true"), "the chart was replaced"
    assert found.get_attribute("data-builds") == builds
    # Two charts of six curves with 600 points and more, and the points of three steps.
    assert first > 150_000
    assert sum(sent) < 40_000, sent


def test_names_of_strangers_are_text(page, compare):
    found = compare()
    expect(found.locator(".chip").first).to_contain_text(HOSTILE)
    found.locator(".u-over").hover()
    expect(found.locator(".tooltip")).to_contain_text(HOSTILE)
    assert page.locator("img[src*=x], a[href*=evil]").count() == 0


def test_all_points_come_as_csv_and_a_chart_as_picture(page, compare, runs, stack):
    found = compare(count=2)
    answer = page.request.get(found.locator("a.tool").evaluate("link => link.href"))
    assert "asym-group-accuracy.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text())))
    assert [int(row["step"]) for row in rows] == 2 * list(range(1, runs.last + 1))
    assert all(re.fullmatch(r"-?[\d.e-]+", row["group/accuracy"]) for row in rows)
    assert page.request.get(f"{stack.url}/export/guessed").status == 404
    found.hover()
    with page.expect_download() as saved:
        found.get_by_role("button", name="PNG").click()
    assert saved.value.suggested_filename == "group-accuracy.png"
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_chart_is_zoomed_and_reset_by_keys_and_shows_where_one_is(page, compare, runs):
    found = compare()
    plot = found.locator(".plot")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    assert not found.get_attribute("data-range"), "nothing to move in"
    page.keyboard.press("+")
    expect(found).to_have_attribute("data-range", re.compile(","))
    zoomed = found.get_attribute("data-range")
    expect(chart(page, "policy/grad_norm")).to_have_attribute("data-range", zoomed)
    page.keyboard.press("ArrowRight")
    expect(found).not_to_have_attribute("data-range", zoomed)
    assert plot.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    expect(found).to_have_attribute("data-range", "")
    expect(page).not_to_have_url(re.compile("zoom="))
    # What has the focus keeps it over a refresh, which once made the legend anew.
    page.keyboard.press("Shift+Tab")
    focused = "node => node.getRootNode().activeElement?.className"
    assert plot.evaluate(focused) == "chip"
    updates = int(found.get_attribute("data-updates"))
    runs.go_on()
    expect(found).to_have_attribute("data-last", str(runs.last))
    assert int(found.get_attribute("data-updates")) > updates
    assert plot.evaluate(focused) == "chip"


def test_runs_are_found_by_words_and_tags(page, stack, runs):
    page.goto(f"{stack.url}/compare")
    page.get_by_role("textbox", name="Find runs").fill("pos0.9")
    page.get_by_role("textbox", name="Find runs").press("Enter")
    page.get_by_role("button", name="Add all 3").click()
    page.wait_for_url(lambda url: "jobs=" in url)
    (named,) = parse_qs(urlsplit(page.url).query)["jobs"]
    assert [part.partition("~")[0] for part in named.split(",")] == runs.ids[:2:-1], "the newest first"
    expect(chart(page, "group/accuracy").locator(".chip")).to_have_count(3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_readable_in_both_themes(page, compare, scheme):
    page.emulate_media(color_scheme=scheme)
    compare("&clip=true", count=6)
    expect(page.locator("[data-testid=stDataFrame] table").first).to_be_attached()
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("radio", name="Sweep").click()
    grid = page.locator(".asym-grid")
    expect(grid).to_have_attribute("data-cells", "6")
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("radio", name="Prompts").click()
    expect(page.get_by_text("prompts of the training data")).to_be_visible()
    assert page.evaluate(CONTRAST) == []
