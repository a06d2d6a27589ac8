from client.errors import SHOWN, AsymError


def test_a_problem_reads_well() -> None:
    problem = {
        "title": "Unprocessable Content",
        "detail": "optim.lr: must be above 0; data.train: no such data set",
        "errors": [
            {"loc": ["body", "optim", "lr"], "msg": "must be above 0"},
            {"loc": ["body", "eval", 0, "data"], "msg": "no such data set"},
        ],
    }
    assert str(AsymError.from_problem(422, problem)).splitlines() == [
        "Unprocessable Content (422)",
        "  optim.lr: must be above 0",
        "  eval.0.data: no such data set",
    ]


def test_a_detail_that_says_more_than_the_errors_is_shown() -> None:
    problem = {"title": "Unprocessable Content", "detail": "2 bad lines", "errors": [{"line": 3, "msg": "no JSON"}]}
    assert str(AsymError.from_problem(422, problem)) == "Unprocessable Content (422): 2 bad lines\n  line 3: no JSON"


def test_bad_lines_of_an_upload_are_counted_beyond_those_listed() -> None:
    listed = [{"line": line, "field": "answer", "msg": "is missing"} for line in range(1, SHOWN + 6)]
    error = AsymError.from_problem(422, {"title": "Rejected", "errors": listed, "error_count": 5000})
    lines = str(error).splitlines()
    assert lines[1] == "  line 1, answer: is missing"
    assert lines[-1] == f"  … and {5000 - SHOWN} more"
    assert len(error.errors) == SHOWN + 5
    assert error.error_count == 5000


def test_an_empty_problem_still_names_its_status() -> None:
    assert str(AsymError.from_problem(502, {})) == "HTTP 502 (502)"
