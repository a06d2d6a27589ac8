"""The dashboard as a user meets it: Chromium, the real API, a real worker, real runs."""

import re
import time

import pytest
from playwright.sync_api import expect

from store.database import Database
from store.models import Rollout

pytestmark = pytest.mark.browser

HOSTILE = "<script>alert(1)</script>\n![x](http://evil.invalid/x.png) **bold** $x^2$"


def chart(page, title):
    """The chart with this title, once it has drawn something."""
    found = page.locator(".asym-chart").filter(has=page.locator(".name", has_text=re.compile(f"^{re.escape(title)}$")))
    expect(found).to_have_attribute("data-steps", re.compile("^[1-9]"))
    return found


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


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
    for text in ("succeeded", "24/24", "tiny-arith", "asymgrpo", finished[-8:]):
        assert text in texts, texts
    # The first column is a button that says which run it opens.
    table = page.locator("[data-testid=stDataFrame]").bounding_box()
    row = texts[::12].index(finished[-8:])
    page.mouse.click(table["x"] + 45, table["y"] + 36 * (row + 1) + 18)
    expect(page.get_by_role("heading", name="arith-finished")).to_be_visible()
    assert f"job={finished}" in page.url


def test_both_entropies_are_drawn_on_one_chart(page, stack, finished):
    page.goto(f"{stack.url}/run?job={finished}")
    found = chart(page, "Entropy by channel")
    assert count(found, "steps") >= 20
    expect(found.locator(".chip")).to_contain_text(["informative (correct)", "spurious (incorrect)", "all tokens"])
    # Lines are drawn with soft edges: near the colour counts.
    drawn = found.locator("canvas").evaluate(
        """(canvas, colors) => {
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const near = (at, color) => color.every((part, index) => Math.abs(data[at + index] - part) < 24);
            const seen = colors.map(() => 0);
            for (let at = 0; at < data.length; at += 4)
                if (data[at + 3] > 200) colors.forEach((color, index) => { seen[index] += near(at, color); });
            return seen;
        }""",
        [[0, 114, 178], [213, 94, 0]],
    )
    assert min(drawn) > 100, f"pixels of the informative and the spurious line: {drawn}"
    for title in ("Accuracy", "Groups", "Correct rollouts per group", "pass@k, heldout", "Coverage, heldout"):
        chart(page, title)


@pytest.mark.parametrize("section", ["Optimisation", "Throughput"])
def test_the_other_sections_are_addressable_and_have_data(page, stack, finished, section):
    page.goto(f"{stack.url}/run?job={finished}&section={section}")
    chart(page, {"Optimisation": "Gradient norm", "Throughput": "Time of a step"}[section])


def test_the_configuration_events_and_log_are_there(page, stack, finished):
    page.goto(f"{stack.url}/run?job={finished}&section=Events")
    expect(cells(page).filter(has_text="succeeded").first).to_be_attached()
    expect(page.get_by_test_id("stCode").last).to_contain_text("step")
    page.get_by_role("radio", name="Config").click()
    expect(page.get_by_test_id("stCode")).to_contain_text("beta_pos: 0.9")
    assert "section=Config" in page.url


def test_text_of_a_rollout_stays_text(page, stack, finished):
    database = Database(stack.environment["ASYM_DATABASE_URL"])
    with database.transaction() as session:
        rollout = session.get_one(Rollout, (finished, 1, 0, 0))
        rollout.prompt = rollout.completion = rollout.answer = HOSTILE
    database.dispose()
    page.goto(f"{stack.url}/run?job={finished}&section=Rollouts&step=1")
    shown = page.get_by_test_id("stCode")
    expect(shown).to_have_count(3)
    for part in shown.all():
        expect(part).to_contain_text("<script>alert(1)</script>")
        expect(part).to_contain_text("![x](http://evil.invalid/x.png) **bold** $x^2$")
    expect(cells(page).filter(has_text="<script>alert(1)</script> ⏎ ![x]").first).to_be_attached()
    assert page.locator("img[src*=evil]").count() == 0
    assert page.locator(".katex").count() == 0


def test_rollouts_can_be_chosen_by_step_and_outcome(page, stack, finished):
    page.goto(f"{stack.url}/run?job={finished}&section=Rollouts&step=3&outcome=incorrect")
    expect(cells(page).filter(has_text="✗").first).to_be_attached()
    assert cells(page).filter(has_text="✓").count() == 0
    page.get_by_role("button", name="Increment").click()
    expect(page).to_have_url(re.compile("step=4"))


def test_a_zoom_survives_refreshes_and_nothing_is_mounted_again(page, stack, running):
    page.goto(f"{stack.url}/run?job={running}")
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
    until(lambda: count(found, "updates") >= updates + 3 and count(found, "last") > last)
    assert found.evaluate("node => node.seenBefore === true"), "the chart was replaced"
    assert found.get_attribute("data-range") == zoomed
    assert found.get_attribute("data-builds") == built
    # Its neighbours show the same steps; a double click shows all again.
    assert chart(page, "Accuracy").get_attribute("data-range") == zoomed
    page.mouse.dblclick(plot["x"] + plot["width"] * 0.5, plot["y"] + 60)
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
    expect(page.get_by_text("position 1")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("arith-waiting")
    expect(dialog).to_contain_text(waiting)
    dialog.get_by_role("button", name="Cancel this run").click()
    expect(page.get_by_test_id("stMain").get_by_text("cancelled")).to_be_visible()
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
    expect(page.get_by_role("button", name="Start the changed run")).to_be_disabled()
    type_in(beta, "0.2")
    expect(page.get_by_text("The platform would take it.")).to_be_visible()
    type_in(page.get_by_role("textbox", name="Name", exact=True), "arith-cloned")
    expect(page.get_by_text("Nothing differs yet")).to_have_count(0)
    page.get_by_role("button", name="Start the changed run").click()
    page.wait_for_url(lambda url: "job=" in url and first not in url)
    clone = api.job(re.search(r"job=(job_\w+)", page.url)[1])
    assert (clone["name"], clone["cloned_from"]) == ("arith-cloned", first)
    assert clone["spec"]["algorithm"]["beta_neg"] == 0.2
    assert clone["spec"]["optim"] == api.job(first)["spec"]["optim"]
    api.cancel(clone["id"])


def test_a_run_is_made_in_the_browser_from_the_upload_on(page, stack, api, running, tmp_path):
    page.goto(f"{stack.url}/submit")
    expect(page.get_by_text("Name a model, training data and a verifier")).to_be_visible()
    type_in(page.get_by_role("textbox", name="Name", exact=True), "by-hand")
    for label, value in (("Model", "builtin/tiny-arith"), ("Verifier", "numeric")):
        choose(page, label, value)
    page.get_by_role("button", name="Upload a data set").click()
    bad, good = tmp_path / "bad.jsonl", tmp_path / "sums.jsonl"
    good.write_text("".join(f'{{"prompt": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(40)))
    bad.write_text(good.read_text() + "no json\n")
    page.locator("input[type=file]").set_input_files(bad)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("1 error in bad.jsonl; nothing was stored")).to_be_visible()
    page.locator("input[type=file]").set_input_files(good)
    page.get_by_role("button", name="Upload", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("The platform would take it.")).to_be_visible()
    expect(page.get_by_text("40 rows").first).to_be_visible()
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
    until(lambda: count(found, "last") > last)


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
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This key is not accepted")).to_be_visible()
    field.fill(api.create_key("browser test", role="viewer")["key"])
    page.get_by_role("button", name="Sign in").click()
    expect(cells(page).filter(has_text="arith-running").first).to_be_attached()
    context.close()
