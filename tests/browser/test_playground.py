"""The playground, with a real worker that samples and judges."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_a_prompt_is_answered_by_two_models_side_by_side_and_judged(page, stack, api, finished):
    step = max(each["step"] for each in api.checkpoints(finished))
    checkpoint = f"job/{finished}@{step}"
    page.goto(f"{stack.url}/playground?models={checkpoint},builtin/tiny-arith")
    page.get_by_label("Prompt").fill("12+34=")
    page.get_by_text("How to sample, and how to judge").click()
    page.get_by_label("Samples of each").fill("3")
    page.get_by_label("Answer", exact=True).fill("46")
    page.get_by_role("combobox", name="Verifier").click()
    page.get_by_role("option", name="exact").click()
    page.get_by_role("button", name="Sample", exact=True).click()
    # One after the other on the worker's only slot: the first sampler makes room for the second.
    expect(page.get_by_text("of 3 right")).to_have_count(2, timeout=200_000)
    expect(page.get_by_test_id("stCode")).to_have_count(6)
    for model in (checkpoint, "builtin/tiny-arith"):
        expect(page.get_by_test_id("stText").get_by_text(model, exact=True)).to_be_visible()
