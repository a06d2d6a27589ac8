import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import wording

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (200, "3 min 20 s"),
        (1500, "25 min"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 4 h"),
        (-3, "0 s"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (0.25, "0.25"), (2e-6, "2.00e-06"), (12345, "12.3k"), (-4.2e9, "-4.2G"), (3, "3")],
)
def test_numbers_keep_four_digits_at_any_size(value, text):
    assert wording.number(value) == text


def test_sizes_are_in_units_of_1024():
    assert [wording.size(n) for n in (None, 512, 11_000_000, 3 * 2**40)] == ["–", "512 B", "10.5 MiB", "3.0 TiB"]


def test_times_are_told_relative_to_now():
    assert wording.ago((NOW - timedelta(seconds=2)).isoformat(), NOW) == "just now"
    assert wording.ago((NOW - timedelta(minutes=3)).isoformat(), NOW) == "3 min 00 s ago"
    assert wording.ago("2026-03-01T10:00:00Z", NOW) == "2 h 00 min ago"
    assert wording.ago(None, NOW) == "–"
    narrow = [wording.about_ago((NOW - timedelta(seconds=back)).isoformat(), NOW) for back in (-3, 59, 119, 7300, 9e5)]
    assert narrow == ["just now", "just now", "1 min ago", "2 h ago", "10 d ago"]
    assert wording.about_ago(None, NOW) == "–"


@pytest.mark.parametrize(
    "text",
    ["![x](http://evil/x.png)", "<script>alert(1)</script>", "**bold** $x^2$ :red[y]", "`code`", "[a](b)", "a\n# b"],
)
def test_markup_of_strangers_is_escaped_mark_by_mark(text):
    """Every ASCII punctuation mark is preceded by a backslash, so no Markdown construct can begin."""
    escaped = wording.inert(text)
    assert "\n" not in escaped
    assert unescaped(escaped).replace("\u2060", "") == " ".join(text.split())


@given(st.text())
def test_no_text_leaves_a_mark_unescaped(text):
    shown = unescaped(wording.inert(text))
    assert shown.replace("\u2060", "") == " ".join(text.split()).replace("\u2060", "")


@given(
    st.text(alphabet="htps:/w.@fx ]["), st.sampled_from(["http://x.y", "HTTPS://x.y", "www.x.y", "a@b.de", "ftp://x"])
)
def test_no_address_is_left_that_a_reader_of_markdown_would_make_a_link_of(text, address):
    shown = unescaped(wording.inert(text + address + text)).lower()
    for link in ("http://", "https://", "ftp://", "www."):
        assert link not in shown
    assert not re.search(r"\w@\w", shown)


def test_the_brackets_of_a_badge_are_left_to_streamlit():
    assert wording.inert_badge(":red[x]") == "\\:red[x]"


def unescaped(text):
    """The text as a Markdown reader shows it; fails on a punctuation mark that nothing escapes."""
    shown, position = "", 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        else:
            assert text[position] not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", text
        shown += text[position]
        position += 1
    return shown


def job(status="running", **changes):
    return {
        "id": "job_1",
        "name": "a",
        "status": status,
        "attempt": 1,
        "started_at": "2026-03-01T11:59:00Z",
        "finished_at": None,
        "progress": {"step": 40, "steps": 100, "seconds_per_step": 0.5, "eta_seconds": None},
        "queue": None,
        **changes,
    }


def test_a_running_job_tells_pace_and_remaining_time():
    assert wording.remaining(job()) == 30.0
    line = wording.progress_line(job(attempt=2, max_attempts=3), NOW)
    assert line == "step 40 of 100 · 0.5 s a step · about 30 s left · started 1 min 00 s ago · attempt 2 of 3"
    # Pauses end attempts without counting, so that there may be more of them.
    assert wording.attempt(job(attempt=5, max_attempts=3)) == "attempt 5"
    assert wording.attempt(job("queued", attempt=0, max_attempts=3)) == ""


def test_where_a_run_comes_from_and_what_it_used():
    made = job(owner="ci", created_at="2026-03-01T11:58:00Z", model="builtin/x", preset="grpo", gpu_seconds=5400.0)
    assert wording.origin(made, NOW) == ["submitted by ci 2 min 00 s ago", "builtin/x", "grpo", "1.50 GPU-hours"]
    again = made | {"gpu_seconds": 0.0, "used_seconds": 61.0, "cloned_from": "job_a", "retry_of": "job_b"}
    assert wording.origin(again, NOW)[3:] == ["cloned from job_a", "goes on for job_b", "1 min 01 s on a CPU"]


def test_the_api_knows_the_remaining_time_best():
    told = job(progress={"step": 40, "steps": 100, "seconds_per_step": 0.5, "eta_seconds": 12.0})
    assert wording.remaining(told) == 12.0


def test_a_finished_job_has_no_time_left_and_tells_what_it_took():
    done = job("succeeded", finished_at="2026-03-01T11:59:45Z")
    assert wording.remaining(done) is None
    assert wording.progress_line(done, NOW) == "step 40 of 100 · took 45 s · attempt 1"


def test_a_queued_job_says_why_it_waits():
    queue = {
        "position": 2,
        "wait_reason": "no worker with 80 GB",
        "code": "no_worker_with_gpu_memory",
        "eta_seconds": None,
    }
    queued = job("queued", started_at=None, queue=queue)
    assert wording.progress_line(queued, NOW) == "step 40 of 100 · position 2, no worker with 80 GB · attempt 1"
    assert wording.waiting({"queue": {"position": 1, "wait_reason": "all GPUs are taken", "eta_seconds": 90}}) == (
        "position 1, all GPUs are taken, starts in about 1 min 30 s"
    )
    assert wording.waiting({"queue": {"position": 1, "wait_reason": "about to start", "eta_seconds": 0.0}}) == (
        "position 1, about to start"
    )


def test_a_workers_gpus_and_what_it_runs():
    h100, unknown = {"name": "H100", "memory_gb": 86}, {"name": None, "memory_gb": None}
    assert wording.gpus([h100, h100, unknown]) == "2 × H100, 86 GB"
    assert wording.gpus([unknown]) == wording.NOTHING
    assert wording.running_on({"jobs": [{"name": "a"}, {"name": "b"}], "kept_for": 4}) == (
        "a, b, GPUs kept free for a job of 4"
    )
    assert wording.running_on({"jobs": [], "kept_for": None}) == wording.NOTHING
