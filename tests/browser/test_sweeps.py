"""The page of sweeps, with a real one on a real worker."""

import json
import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def sweep(api, tmp_path_factory):
    """Two by two runs that go on until they are cancelled."""
    file = tmp_path_factory.mktemp("sweep") / "train.jsonl"
    pairs = [(a, b) for a in range(10) for b in range(10)]
    file.write_text("".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) + "\n" for a, b in pairs))
    base = {
        "model": {"id": "builtin/tiny-arith"},
        "data": {"train": api.upload_dataset(file)["id"]},
        "reward": {"kind": "exact"},
        "rollout": {"group_size": 4, "max_new_tokens": 4},
        "optim": {"lr": 1e-3, "prompts_per_step": 4},
        "train": {"steps": 100_000},
        "checkpoint": {"every": 1000},
    }
    grid = {"algorithm.beta_pos": [0.0, 0.9], "algorithm.beta_neg": [0.0, 0.4]}
    made = api.create_sweep({"name": "betas", "base": base, "search": {"kind": "grid", "parameters": grid}})
    yield made
    api.cancel_sweep(made["id"])


def test_a_sweep_is_found_looked_at_compared_and_cancelled_by_its_name(page, stack, api, sweep):
    page.goto(f"{stack.url}/sweeps")
    cells = page.locator("[data-testid=stDataFrame] table td")
    expect(cells.first).to_have_text(f"betas · {sweep['id'][-8:]}")
    table = page.locator("[data-testid=stDataFrame]").bounding_box()
    page.mouse.click(table["x"] + 60, table["y"] + 35 + 17)
    expect(page.get_by_role("heading", name="betas")).to_be_visible()
    assert f"sweep={sweep['id']}" in page.url

    # A cell of the heatmap fills by itself once its run has done a step.
    expect(page.locator(".asym-grid[data-cells]:not([data-cells='0'])")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("0 of 4 ended")).to_be_visible()

    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Cancel all of betas?")).to_be_visible()
    expect(dialog.get_by_text(sweep["id"])).to_be_visible()
    dialog.get_by_role("button", name="Cancel this sweep").click()
    expect(page.get_by_text("4 cancelled")).to_be_visible()
    assert api.sweep(sweep["id"])["statuses"] == {"cancelled": 4}
    expect(page.get_by_text("No more of it will run")).to_be_visible()

    page.get_by_role("button", name="Compare all 4").click()
    expect(page).to_have_url(re.compile("/compare"))
    expect(page.get_by_text("4 runs", exact=True)).to_be_visible()
    for member in sweep["jobs"]:
        assert member["job_id"] in page.url
