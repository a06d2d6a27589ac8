"""What a comparison asks the API, and what it keeps."""

from dashboard.kept_curves import KeptCurves, Question


class Api:
    """Answers in turn, and what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def compare(self, job_ids, keys, **more):
        self.asked.append((list(job_ids), more["since"]))
        return self.answers.pop(0)


def answer(cursor, **jobs):
    return {"cursor": cursor, "jobs": {name: {"name": name, **job} for name, job in jobs.items()}}


def job(steps, values, drop_after=None, status="running"):
    return {"status": status, "drop_after": drop_after, "keys": {"r": {"step": steps, "value": values}}}


WHOLE = -1
QUESTION = Question(("a", "b"), ("r",), 600)


def test_a_refresh_asks_for_what_is_new_and_only_of_runs_that_go_on():
    kept = KeptCurves(QUESTION)
    api = Api(
        answer("5,7", a=job([1, 2], [0.1, 0.2], WHOLE), b=job([1], [0.5], WHOLE, "succeeded")),
        answer("6", a=job([3], [0.3])),
    )
    kept.bring_up_to_date(api).bring_up_to_date(api)
    assert api.asked == [(["a", "b"], "0,0"), (["a"], "5")]
    assert kept.columns["a"]["r"] == {"step": [1, 2, 3], "value": [0.1, 0.2, 0.3]}
    assert kept.columns["b"]["r"] == {"step": [1], "value": [0.5]}
    assert (kept.active, kept.requests) == (True, 2)


def test_when_all_have_ended_nothing_is_asked():
    kept = KeptCurves(QUESTION)
    ended = job([1], [0.5], WHOLE, "failed")
    api = Api(answer("5,7", a=ended, b=ended))
    kept.bring_up_to_date(api).bring_up_to_date(api)
    assert (kept.requests, kept.active) == (1, False)


def test_steps_that_were_taken_back_are_forgotten_and_others_replaced():
    kept = KeptCurves(Question(("a",), ("r",), 600))
    api = Api(
        answer("5", a=job([1, 2, 3], [1, 2, 3], WHOLE)),
        answer("6", a=job([2], [20], drop_after=1)),
        answer("7", a=job([1, 3], [10, 30])),
    )
    for _ in range(3):
        kept.bring_up_to_date(api)
    assert kept.columns["a"]["r"] == {"step": [1, 2, 3], "value": [10, 20, 30]}


def test_many_runs_are_asked_for_in_pages():
    ids = tuple(f"job_{number}" for number in range(120))
    pages = [ids[:50], ids[50:100], ids[100:]]
    api = Api(*(answer(",".join("1" for _ in page), **{i: job([1], [1], WHOLE) for i in page}) for page in pages))
    kept = KeptCurves(Question(ids, ("r",), 100)).bring_up_to_date(api)
    assert [asked for asked, _ in api.asked] == [list(page) for page in pages]
    assert len(kept.columns) == 120


def test_a_curve_that_has_grown_by_half_its_points_is_thinned_anew():
    kept = KeptCurves(Question(("a",), ("r",), 10))
    api = Api(
        answer("5", a=job([1], [1], WHOLE)),
        answer("6", a=job([2, 3, 4, 5, 6, 7], [0] * 6)),
        answer("9", a=job([1, 7], [1, 0], WHOLE)),
    )
    for _ in range(3):
        kept.bring_up_to_date(api)
    assert [since for _, since in api.asked] == ["0", "5", "0"]
    assert kept.columns["a"]["r"]["step"] == [1, 7]
    assert kept.renewed == 2
