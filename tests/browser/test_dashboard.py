"""The dashboard as a user meets it: Chromium, the real API, a real worker, real runs."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from client import Asym, AsymError
from dashboard import run_table
from store import journal, keys
from store.access import Role
from store.database import Database
from store.models import Rollout
from tests.browser.conftest import STEPS, walk
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

HOSTILE = "<script>alert(1)</script>\n![x](http://evil.invalid/x.png) **bold** $x^2$"


def chart(page, title):
    """The chart with this title, once it has drawn something."""
    found = page.locator(".asym-chart").filter(has=page.locator(".name", has_text=re.compile(f"^{re.escape(title)}$")))
    expect(found).to_have_attribute("data-steps", re.compile("^[1-9]"))
    return found


def count(found, attribute):
    return int(found.get_attribute(f"data-{attribute}"))


def type_in(field, text):
    field.fill(text)
    field.press("Enter")


def choose(page, label, value):
    field = page.get_by_role("combobox", name=label, exact=True)
    field.click()
    field.fill(value)
    page.get_by_role("option", name=value, exact=True).click()


def cells(page):
    """Texts of the table's cells: it draws on a canvas and keeps a real table for screen readers."""
    return page.locator("[data-testid=stDataFrame] table td")


def test_the_runs_table_shows_a_run_and_opens_it(page, stack, finished):
    page.goto(stack.url)
    expect(cells(page).filter(has_text="arith-finished").first).to_be_attached()
    texts = cells(page).all_text_contents()
    name = f"arith-finished · {finished[-8:]}"
    for text in ("succeeded", "tiny-arith", "asymgrpo", name):
        assert text in texts, texts
    # The run's name is a button that says which run it opens; before it stands the star that pins it.
    table = page.locator("[data-testid=stDataFrame]").bounding_box()
    row = texts[1 :: len(run_table.SHOWN_FIRST) + 2].index(name)
    page.mouse.click(table["x"] + 120, table["y"] + 36 * (row + 1) + 18)
    expect(page.get_by_role("heading", name="arith-finished")).to_be_visible()
    assert f"job={finished}" in page.url


COLORS = {"informative": [0, 114, 178], "spurious": [213, 94, 0]}


def drawn_columns(found):
    """In how many columns of the chart's canvas each line is seen, by channel."""
    seen = found.locator("canvas").evaluate(
        # A line's edges are soft: there the canvas has its colour, but is partly transparent.
        """(canvas, colors) => {
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const near = (at, color) => color.every((part, index) => Math.abs(data[at + index] - part) < 24);
            const columns = colors.map(() => new Set());
            for (let at = 0; at < data.length; at += 4)
                if (data[at + 3] > 100)
                    colors.forEach((color, index) => near(at, color) && columns[index].add((at / 4) % canvas.width));
            return columns.map((each) => each.size);
        }""",
        list(COLORS.values()),
    )
    return dict(zip(COLORS, seen, strict=True))


def test_both_entropies_are_drawn_on_one_chart(page, stack, api, finished):
    page.goto(f"{stack.url}/run?job={finished}&section=Exploration")
    found = chart(page, "Entropy by channel")
    assert count(found, "steps") == STEPS
    expect(found.locator(".chip")).to_contain_text(["informative (correct)", "spurious (incorrect)", "all tokens"])
    assert min(drawn_columns(found).values()) > 0, "both at once"
    # Each alone, as another may lie over it. Where no rollout was right (or wrong) its line has a gap: how long it is
    # follows from the run.
    metrics = api.metrics(finished, ["entropy/informative", "entropy/spurious"])["keys"]
    step = found.locator(".u-over").bounding_box()["width"] / STEPS
    for channel, other in (("informative", "spurious"), ("spurious", "informative")):
        found.locator(".chip", has_text=channel).dblclick()
        expect(found.locator(".chip[aria-pressed=true]")).to_have_count(1)
        points = metrics[f"entropy/{channel}"]
        defined = {at for at, value in zip(points["step"], points["value"], strict=True) if value is not None}
        length = step * sum(at + 1 in defined for at in defined)
        assert length > 0, metrics
        wait_until(lambda other=other: drawn_columns(found)[other] == 0)
        columns = drawn_columns(found)[channel]
        assert columns > 0.8 * length, f"{columns} columns of {channel}, whose lines are {length:.0f} long"
    chart(page, "Phase plane")
    # Only what is on screen is mounted.
    assert page.locator(".asym-chart").filter(has_text="Gradient norm").count() == 0


def test_the_charts_of_a_run_are_to_be_had_as_pictures_and_files(page, stack, finished):
    page.goto(f"{stack.url}/run?job={finished}&section=Exploration")
    for title, heading in (
        ("Phase plane", "entropy/informative,entropy/spurious"),
        ("Drive on the entropy", "entropy/drive_informative,entropy/drive_spurious"),
    ):
        found = chart(page, title)
        found.hover()
        with page.expect_download() as saved:
            found.get_by_role("button", name="PNG").click()
        assert saved.value.suggested_filename == f"{title.replace(' ', '-')}.png"
        with page.expect_download() as saved:
            found.get_by_role("link", name="CSV").click()
        lines = Path(saved.value.path()).read_text().splitlines()
        assert lines[0] == f"job_id,name,step,attempt,at,{heading}"
        assert len(lines) == 1 + STEPS


def test_every_section_is_addressable_and_has_data(page, stack, finished):
    for section, titles in (
        ("Groups", ("Correct rollouts per group", "Effective batch")),
        ("Coverage&at=0&at=16", ("pass@k, heldout", "Coverage, heldout")),
        ("Optimisation", ("Gradient norm", "Log-prob gain")),
        ("Throughput", ("Time of a step", "Steps done")),  # as System was called in older links
        ("Overview", ("Accuracy", "Entropy by channel", "Groups", "Phase plane")),
    ):
        page.goto(f"{stack.url}/run?job={finished}&section={section}")
        for title in titles:
            chart(page, title)
        if section.startswith("Coverage"):
            expect(chart(page, "Coverage, heldout").locator(".chip")).to_contain_text(["step 0", "step 16"])
    expect(page.get_by_text("all 24 steps are done")).to_be_visible()


def test_the_configuration_events_and_log_are_there(page, stack, finished):
    page.goto(f"{stack.url}/run?job={finished}&section=Events")
    expect(cells(page).filter(has_text="succeeded").first).to_be_attached()
    expect(page.get_by_test_id("stCode").last).to_contain_text("step")
    page.get_by_role("radio", name="Config").click()
    expect(page.get_by_test_id("stCode")).to_contain_text("beta_pos: 0.9")
    assert "section=Config" in page.url


def test_an_alert_shades_its_steps_and_leads_to_their_rollouts(page, stack, api, finished):
    database = Database(stack.environment["ASYM_DATABASE_URL"])
    with database.transaction() as session:
        data = {"code": "entropy_collapse", "step": 9, "time": 0.0, "data": {}}
        row = journal.event_row(finished, 1, "message", HOSTILE, data, "warning")
        journal.append(session, [row])
    page.goto(f"{stack.url}/run?job={finished}")
    mark = chart(page, "Accuracy").locator("a.span", has_text="Entropy collapse")
    assert "step=9" in mark.get_attribute("href")
    expect(page.get_by_text("step 9 · <script>alert(1)</script> ![x]")).to_be_visible()
    assert page.locator("img[src*=evil]").count() == 0
    page.evaluate("window.stillHere = true")
    mark.click()
    expect(page).to_have_url(re.compile("section=Rollouts.*step=9|step=9.*section=Rollouts"))
    expect(page.get_by_role("spinbutton")).to_have_value("9")
    assert page.evaluate("window.stillHere"), "the page was loaded anew, and its session lost"
    database.dispose()


def test_a_pinned_run_is_on_top_in_whatever_browser_opens_the_link(page, chromium, stack, finished, running):
    page.goto(f"{stack.url}/?status=running&status=succeeded")
    name = f"arith-finished · {finished[-8:]}"
    expect(cells(page).filter(has_text="arith-running").first).to_be_attached()
    columns = len(run_table.SHOWN_FIRST) + 2
    row = cells(page).all_text_contents()[1::columns].index(name)
    assert row > 0
    table = page.locator("[data-testid=stDataFrame]").bounding_box()
    page.mouse.click(table["x"] + 17, table["y"] + 36 * (row + 1) + 18)
    expect(page).to_have_url(re.compile(f"pin={finished}"))
    expect(cells(page).nth(1)).to_have_text(name)
    other = chromium.new_context().new_page()
    other.goto(page.url)
    expect(cells(other).nth(1)).to_have_text(name)
    expect(other.get_by_text("succeeded", exact=True).first).to_be_visible()
    other.context.close()


def test_tags_and_notes_are_edited_and_stay_text(page, stack, api, finished):
    page.goto(f"{stack.url}/run?job={finished}")
    page.get_by_role("button", name="Edit", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Notes").fill(HOSTILE)
    tags = dialog.get_by_role("combobox", name="Tags")
    tags.fill("<b>paper</b>")
    tags.press("Enter")
    tags.press("Tab")  # closes the list of choices, which hides the rest of the dialog from whoever asks by roles
    # Somebody else is faster: theirs is shown, and nothing is lost without a word.
    api.edit_job(finished, notes="theirs")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("Somebody has edited this run meanwhile")).to_be_visible()
    assert api.job(finished)["notes"] == "theirs"
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("<b>paper</b>")).to_be_visible()
    expect(page.get_by_text("<script>alert(1)</script>").first).to_be_visible()
    edited = api.job(finished)
    assert (edited["tags"], edited["notes"]) == (["<b>paper</b>"], HOSTILE)
    assert page.locator("img[src*=evil], .katex").count() == 0


@pytest.fixture
def change_rollout(stack, finished):
    """change_rollout(step, sample, **columns): of the finished run's first group."""
    database = Database(stack.environment["ASYM_DATABASE_URL"])

    def change(step, sample, **columns):
        with database.transaction() as session:
            rollout = session.get_one(Rollout, (finished, step, 0, sample))
            for name, value in columns.items():
                setattr(rollout, name, value)

    yield change
    database.dispose()


def cards(page):
    return page.locator(".asym-group .card")


def test_text_of_a_rollout_stays_text(page, stack, finished, change_rollout):
    change_rollout(1, 0, prompt=HOSTILE, completion=HOSTILE, answer=HOSTILE)
    page.goto(f"{stack.url}/run?job={finished}&section=Rollouts&step=1")
    for part in (*page.locator(".asym-group .asked .text").all(), cards(page).first.locator(".text")):
        expect(part).to_contain_text("<script>alert(1)</script>")
        expect(part).to_contain_text("![x](http://evil.invalid/x.png) **bold** $x^2$")
    assert page.locator("img[src*=evil], .asym-group script, .katex").count() == 0


def test_tokens_are_shaded_by_their_entropy_whatever_their_characters(page, stack, finished, change_rollout):
    """Offsets count characters, not the browser's UTF-16 units: an emoji is one."""
    change_rollout(2, 0, completion="a🙂bc", token_entropies=[0.0, 2.5, 1.0, 0.5], token_ends=[1, 2, 4, 4])
    page.goto(f"{stack.url}/run?job={finished}&section=Rollouts&step=2&find=BC")
    tokens = cards(page).first.locator(".token")
    expect(tokens).to_have_text(["a", "🙂", "bc"])
    expect(tokens.nth(1)).to_have_attribute("title", "token 2: entropy 2.500 nats")
    alphas = tokens.evaluate_all("nodes => nodes.map(node => node.style.background.match(/[\\d.]+(?=\\))/)[0])")
    assert [float(alpha) for alpha in alphas] == [0.0, 0.6, 0.3]
    expect(cards(page).first.locator("mark")).to_have_text(["bc"])
    expect(cards(page)).to_have_count(1)
    expect(page.get_by_text("1 of 8 shown")).to_be_visible()


def test_groups_are_walked_by_keys_and_the_address_keeps_the_place(page, stack, finished):
    page.goto(f"{stack.url}/run?job={finished}&section=Rollouts&step=3")
    expect(page.get_by_text("Group 1 · data row")).to_be_visible()
    expect(cards(page)).to_have_count(8)
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    walk(page, "n", "Group 2 · data row")
    page.get_by_role("button", name="Increment").click()
    expect(page).to_have_url(re.compile("step=4"))
    page.get_by_role("radio", name="incorrect").click()
    expect(page.locator(".asym-group .card.correct")).to_have_count(0)
    copied = page.url
    page.goto("about:blank")
    page.goto(copied)
    expect(page.get_by_text("Group 2 · data row")).to_be_visible()
    expect(page.get_by_role("radio", name="incorrect")).to_be_checked()
    expect(page.get_by_role("spinbutton")).to_have_value("4")
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    walk(page, "p", "Group 1 · data row")


def test_a_zoom_survives_refreshes_and_nothing_is_mounted_again(page, stack, running):
    page.goto(f"{stack.url}/run?job={running}&section=Overview")
    found = chart(page, "Entropy by channel")
    found.evaluate("node => { node.seenBefore = true; }")
    plot = found.locator(".u-over").bounding_box()
    page.mouse.move(plot["x"] + plot["width"] * 0.2, plot["y"] + 60)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] * 0.6, plot["y"] + 70, steps=6)
    page.mouse.up()
    expect(found).to_have_attribute("data-range", re.compile(r"\d"))
    zoomed, built = found.get_attribute("data-range"), found.get_attribute("data-builds")
    last = count(found, "last")
    updates = count(found, "updates")
    wait_until(lambda: count(found, "updates") >= updates + 3 and count(found, "last") > last)
    assert found.evaluate("node => node.seenBefore === true"), "the chart was replaced"
    assert found.get_attribute("data-range") == zoomed
    assert found.get_attribute("data-builds") == built
    # Its neighbours show the same steps; a double click shows all again.
    assert chart(page, "Accuracy").get_attribute("data-range") == zoomed
    # Where it is by now: what came above it meanwhile, an alert or a longer line, has moved it.
    found.locator(".u-over").dblclick()
    expect(found).to_have_attribute("data-range", "")


def test_a_comparison_travels_in_its_address(page, stack, finished, running):
    page.goto(f"{stack.url}/compare?jobs={finished},{running}&keys=group/accuracy,entropy/spurious")
    for title in ("group/accuracy", "entropy/spurious"):
        expect(chart(page, title).locator(".chip")).to_contain_text(["arith-finished", "arith-running"])
    assert page.locator(".asym-chart").count() == 2
    expect(cells(page).filter(has_text="train.steps").first).to_be_attached()
    page.get_by_role("combobox", name="Metrics").fill("reward/mean")
    page.get_by_role("option", name="reward/mean").click()
    chart(page, "reward/mean")
    copied = page.url
    page.goto("about:blank")
    page.goto(copied)
    for title in ("group/accuracy", "entropy/spurious", "reward/mean"):
        chart(page, title)
    colors = [
        {
            # The name, without the value that follows it.
            re.match(r"[a-z-]+", chip.text_content())[0]: chip.locator(".mark").evaluate("n => n.style.borderTopColor")
            for chip in chart(page, title).locator(".chip").all()
        }
        for title in ("group/accuracy", "reward/mean")
    ]
    assert colors[0] == colors[1]
    assert len(set(colors[0].values())) == 2


def test_cancel_acts_on_the_run_it_names(page, stack, api, running, submit):
    waiting = submit("arith-waiting", 5)
    page.goto(f"{stack.url}/run?job={waiting}")
    expect(page.get_by_text("position 1").first).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("arith-waiting")
    expect(dialog).to_contain_text(waiting)
    dialog.get_by_role("button", name="Cancel this run").click()
    # Its badge; the verdict below says so, too.
    expect(page.get_by_test_id("stMain").get_by_text("cancelled").first).to_be_visible()
    assert api.job(waiting)["status"] == "cancelled"
    assert api.job(running)["status"] == "running"


def test_a_cancelled_run_is_retried_and_cloned_with_changes(page, stack, api, running, submit):
    first = submit("arith-again", 5)
    api.cancel(first)
    page.goto(f"{stack.url}/run?job={first}")
    page.get_by_role("button", name="Retry", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Retry this run").click()
    page.wait_for_url(lambda url: "job=" in url and first not in url)
    retry = api.job(re.search(r"job=(job_\w+)", page.url)[1])
    assert retry["retry_of"] == first
    api.cancel(retry["id"])

    page.goto(f"{stack.url}/run?job={first}")
    page.get_by_role("button", name="Clone", exact=True).click()
    expect(page.get_by_role("heading", name="Run it again, with changes")).to_be_visible()
    expect(page.get_by_text("Nothing differs yet")).to_be_visible()
    page.get_by_text("Algorithm", exact=True).last.click()
    beta = page.get_by_role("textbox", name="beta_neg", exact=True)
    type_in(beta, "-x")
    expect(page.get_by_text("1 field to mend or fill in: algorithm.beta_neg")).to_be_visible()
    page.get_by_role("button", name="Start the changed run").click()
    expect(page.get_by_text("Not started")).to_be_visible()
    type_in(beta, "0.2")
    expect(page.get_by_text("The platform would take it.")).to_be_visible()
    expect(page.get_by_text("Nothing differs yet")).to_have_count(0)
    # Pressed while the field typed last has not been judged: it counts.
    page.get_by_role("textbox", name="Name", exact=True).fill("arith-cloned")
    page.get_by_role("button", name="Start the changed run").click()
    page.wait_for_url(lambda url: "job=" in url and first not in url)
    clone = api.job(re.search(r"job=(job_\w+)", page.url)[1])
    assert (clone["name"], clone["cloned_from"]) == ("arith-cloned", first)
    assert clone["spec"]["algorithm"]["beta_neg"] == 0.2
    assert clone["spec"]["optim"] == api.job(first)["spec"]["optim"]
    api.cancel(clone["id"])


def open_upload(page):
    # A press while the page is being drawn anew may go nowhere.
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    page.get_by_role("button", name="Upload a data set").click()
    expect(page.locator("input[type=file]")).to_be_attached()


def upload(page, file):
    page.locator("input[type=file]").set_input_files(file)
    # The form does not send what Streamlit has not taken in yet.
    expect(page.get_by_test_id("stFileChipName")).to_have_text(file.name)
    expect(page.get_by_test_id("stFileChipIconSpinner")).to_have_count(0)
    page.get_by_test_id("stBaseButton-primaryFormSubmit").click()


def test_a_run_is_made_in_the_browser_from_the_upload_on(page, stack, api, running, tmp_path):
    page.goto(f"{stack.url}/submit")
    expect(page.get_by_text("Name a model, training data and a verifier")).to_be_visible()
    type_in(page.get_by_role("textbox", name="Name", exact=True), "by-hand")
    for label, value in (("Model", "builtin/tiny-arith"), ("Verifier", "numeric")):
        choose(page, label, value)
    expect(page.get_by_text("1 field to mend or fill in: data.train")).to_be_visible()
    open_upload(page)
    bad, good = tmp_path / "bad.jsonl", tmp_path / "sums.jsonl"
    good.write_text("".join(f'{{"prompt": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(40)))
    bad.write_text(good.read_text() + "no json\n")
    upload(page, bad)
    expect(page.get_by_text("1 error in bad.jsonl; nothing was stored")).to_be_visible()
    upload(page, good)
    expect(page.get_by_text("40 rows").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("The platform would take it.")).to_be_visible()
    page.get_by_role("tab", name="curl").click()
    expect(page.get_by_text("Authorization: Bearer $ASYM_API_KEY")).to_be_visible()
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url(lambda url: "/run" in url and "job=" in url)
    job = api.job(re.search(r"job=(job_\w+)", page.url)[1])
    assert (job["name"], job["spec"]["reward"]["kind"]) == ("by-hand", "numeric")
    assert api.dataset(job["spec"]["data"]["train"])["name"] == "sums.jsonl"
    api.cancel(job["id"])


def test_a_page_survives_an_api_that_goes_away(page, stack, running):
    page.goto(f"{stack.url}/run?job={running}")
    found = chart(page, "Accuracy")
    found.evaluate("node => { node.seenBefore = true; }")
    with stack.without_api():
        expect(page.get_by_text("does not answer").first).to_be_visible()
        assert found.evaluate("node => node.seenBefore === true"), "what was known is gone"
        last = count(found, "last")
    expect(page.get_by_text("does not answer")).to_have_count(0)
    wait_until(lambda: count(found, "last") > last)


def test_a_page_opened_while_the_api_is_away_comes_back_by_itself(page, stack, finished):
    with stack.without_api():
        page.goto(f"{stack.url}/run?job={finished}")
        expect(page.get_by_text("comes back by itself")).to_be_visible()
    chart(page, "Accuracy")


def test_an_unknown_run_is_told(page, stack):
    page.goto(f"{stack.url}/run?job=job_00000000000000000000000000")
    expect(page.get_by_text("There is no such thing here")).to_be_visible()


def test_someone_who_comes_through_a_proxy_must_sign_in(chromium, stack, api, running):
    """The key of this machine is for those on it: a forwarded request gets none."""
    context = chromium.new_context(extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    page = context.new_page()
    page.goto(stack.url)
    field = page.get_by_label("API key")
    expect(field).to_be_visible()
    field.fill("asym_wrong")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("This key is not accepted")).to_be_visible()
    field.fill(api.create_key("browser test", role="viewer")["key"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(cells(page).filter(has_text="arith-running").first).to_be_attached()
    context.close()


@pytest.fixture(scope="module")
def other_team(stack):
    """An admin key of a team of its own."""
    database = Database(stack.environment["ASYM_DATABASE_URL"])
    with database.transaction() as session:
        team = keys.create_team(session, "strangers")
        _, key = keys.create(session, team.id, "first key", Role.ADMIN)
    yield key
    database.dispose()


def test_teams_do_not_see_each_other_and_keys_are_shown_once(chromium, stack, finished, running, other_team):
    context = chromium.new_context(extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    page = context.new_page()
    page.goto(f"{stack.url}/team")
    page.get_by_label("API key").fill(other_team)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Team strangers")).to_be_visible()

    page.get_by_role("button", name="New key").click()
    dialog = page.get_by_role("dialog")
    type_in(dialog.get_by_label("Name"), "laptop")
    dialog.get_by_role("radio", name="viewer").click()
    dialog.get_by_role("button", name="Make it").click()
    made = page.get_by_test_id("stCode").filter(has_text="asym_")
    expect(made).to_be_visible()
    with Asym(stack.api_url, made.text_content().strip()) as asym:
        assert (asym.me()["key_name"], asym.me()["role"]) == ("laptop", "viewer")
        revoke = page.get_by_role("button", name="Revoke a key")
        revoke.evaluate("node => { node.stillHere = true; }")
        page.get_by_role("button", name="Done, hide it").click()
        expect(made).to_have_count(0)
        assert revoke.evaluate("node => node.stillHere"), "mounted anew: a click at that moment is lost"
        revoke.click()
        dialog.get_by_role("combobox").click()
        page.get_by_role("option", name="laptop").click()
        dialog.get_by_role("button", name="Revoke laptop").click()
        expect(dialog).to_have_count(0)
        with pytest.raises(AsymError, match="401"):
            asym.me()

    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_text("No runs yet")).to_be_visible()
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_text("Running: 0")).to_be_visible()
    context.close()
    # A new tab knows no key; with it, another team's run is not there.
    context = chromium.new_context(extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    page = context.new_page()
    page.goto(f"{stack.url}/run?job={finished}")
    page.get_by_label("API key").fill(other_team)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_text("There is no such thing here")).to_be_visible()
    context.close()


def test_a_data_set_is_uploaded_looked_at_and_deleted(page, stack, api, finished, tmp_path):
    file = tmp_path / "looked-at.jsonl"
    file.write_text("".join(json.dumps({"q": f"{n}+{n}=", "a": str(n + n)}) + "\n" for n in range(30)))
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    page.goto(f"{stack.url}/datasets")
    open_upload(page)
    upload(page, file)
    expect(page.get_by_text("60 errors in looked-at.jsonl; nothing was stored")).to_be_visible()
    page.get_by_text("Columns of other names").click()
    expect(page.get_by_label("Column of the answer")).to_be_visible()
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    before = len(sent)
    type_in(page.get_by_label("Column of the prompt"), "q")
    type_in(page.get_by_label("Column of the answer"), "a")
    # An answer to what was typed took away the list of errors, the button moved, and the press that was under way was
    # no click any more.
    assert page.get_by_text("60 errors in looked-at.jsonl").is_visible()
    assert len(sent) == before, "typing asks the server"
    page.get_by_test_id("stBaseButton-primaryFormSubmit").click()
    expect(page.get_by_text("60 errors in looked-at.jsonl")).to_have_count(0)
    expect(page.get_by_role("combobox", name="Look at")).to_have_value("looked-at.jsonl v1 · 30 rows")
    expect(page.get_by_test_id("stCode").filter(has_text='"prompt": "7+7="')).to_be_visible()
    (dataset,) = [each for each in api.datasets() if each["name"] == "looked-at.jsonl"]
    assert f"dataset={dataset['id']}" in page.url
    page.keyboard.press("Escape")
    choose(page, "Prompt length in tokens of", "builtin/tiny-arith")
    expect(page.get_by_text("Tokens in a prompt: 4 to 6")).to_be_visible()
    page.get_by_role("button", name="Delete", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(dataset["id"])
    dialog.get_by_role("button", name="Delete looked-at.jsonl v1").click()
    expect(dialog).to_have_count(0)
    assert "looked-at.jsonl" not in [each["name"] for each in api.datasets()]


def test_people_sign_in_at_their_organisation_and_choose_a_team(chromium, stack, api, running, other_team):
    context = chromium.new_context(extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    page = context.new_page()
    asked = f"{stack.url}/run?job={running}&section=Config"
    page.goto(asked)
    page.get_by_role("button", name="Sign in with your organisation").click()
    expect(page.get_by_text("nobody signs in as")).to_be_visible()
    ada = api.add_member("ada", role="viewer", login="ada@example.com")
    page.get_by_role("button", name="Sign in anew").click()
    page.get_by_role("button", name="Sign in with your organisation").click()
    # Back from the provider, on the page that was asked for.
    expect(page.get_by_role("heading", name="arith-running")).to_be_visible()
    expect(page.get_by_test_id("stCode").filter(has_text="beta_pos")).to_be_visible()
    assert page.url == asked
    (key,) = [each for each in api.keys() if each["member_id"] == ada["id"]]  # noqa: SIM118
    assert (key["role"], key["revoked_at"]) == ("viewer", None)
    assert key["expires_at"] is not None

    # In another tab, of two teams by now, they are asked which.
    with Asym(stack.api_url, other_team) as others:
        others.add_member("ada", login="ada@example.com")
    tab = context.new_page()
    tab.goto(f"{stack.url}/team")
    tab.get_by_role("combobox", name="Team").click()
    tab.get_by_role("option", name="strangers, member").click()
    tab.get_by_role("button", name="Go on").click()
    expect(tab.get_by_role("heading", name="Team strangers")).to_be_visible()
    expect(tab.get_by_text("You are ada, member")).to_be_visible()
    context.close()
