import pytest

from dashboard import colors, curves

COLUMNS = {
    "entropy/informative": {"step": [1, 2, 3, 4], "value": [None, 0.9, None, 0.7]},
    "entropy/informative_tokens": {"step": [1, 2, 3, 4], "value": [0, 40, 0, 44]},
    "eval/held/pass_at_k/1": {"step": [0, 10], "value": [0.25, 0.5]},
    "eval/held/pass_at_k/1/low": {"step": [0, 10], "value": [0.2, 0.45]},
    "eval/held/pass_at_k/1/high": {"step": [0, 10], "value": [0.3, 0.55]},
    "unmeasured": {"step": [], "value": []},
    "undefined": {"step": [1, 2], "value": [None, None]},
}


def test_a_null_stays_a_gap_and_its_count_is_told():
    line = curves.line(
        COLUMNS, "entropy/informative", "informative", colors.BLUE, note=("entropy/informative_tokens", str)
    )
    assert line.x == [1, 2, 3, 4]
    assert line.y == [None, 0.9, None, 0.7]
    assert line.notes == ["0", "40", "0", "44"]


def test_an_interval_is_drawn_where_it_was_measured():
    line = curves.line(COLUMNS, "eval/held/pass_at_k/1", "held", colors.GREEN, interval=True)
    assert (line.low, line.high) == ([0.2, 0.45], [0.3, 0.55])
    assert curves.line(COLUMNS, "entropy/informative", "x", colors.GREEN, interval=True).low is None


def test_lines_without_a_value_are_left_out():
    keys = ["entropy/informative", "unmeasured", "undefined", "never heard of"]
    lines = [curves.line(COLUMNS, key, key, colors.BLUE) for key in keys]
    assert [line.label for line in curves.present(lines)] == ["entropy/informative"]


def test_ends_and_extremes_skip_what_is_undefined():
    assert curves.first(COLUMNS, "entropy/informative") == 0.9
    assert curves.last(COLUMNS, "entropy/informative") == 0.7
    assert curves.last(COLUMNS, "undefined") is None
    assert curves.best(COLUMNS, "entropy/informative") == (2, 0.9)
    assert curves.best(COLUMNS, "entropy/informative", lowest=True) == (4, 0.7)
    assert curves.best(COLUMNS, "undefined") is None


def test_of_equal_values_the_earliest_is_the_best():
    columns = {"a": {"step": [1, 2, 3], "value": [0.5, 0.5, 0.1]}}
    assert curves.best(columns, "a") == (1, 0.5)
    assert curves.best({"a": {"step": [1, 2, 3], "value": [0.5, 0.1, 0.1]}}, "a", lowest=True) == (2, 0.1)


def test_a_closer_look_replaces_the_overview_inside_its_range_only():
    overview = {"a": {"step": [0, 10, 20, 30], "value": [0.0, 1.0, 2.0, 3.0]}}
    detail = {"a": {"step": [8, 9, 10, 11], "value": [0.8, None, 1.0, 1.1]}}
    assert curves.finer(overview, detail, (8, 20)) == {
        "a": {"step": [0, 8, 9, 10, 11, 30], "value": [0.0, 0.8, None, 1.0, 1.1, 3.0]}
    }


def test_thinned_curves_are_laid_over_one_another_as_means_over_stretches():
    """Thinning keeps other steps of each curve, and its extremes: held side by side they would not add up."""
    columns = {
        "a": {"step": [1, 2, 3, 93, 100], "value": [0.2, None, 0.4, 0.1, 0.3]},
        "b": {"step": [1, 4, 50, 95], "value": [0.8, 0.6, 0.5, 0.7]},
    }
    a, b = curves.in_stretches([curves.line(columns, key, key, colors.BLUE) for key in "ab"], 10)
    assert a.x == b.x == [6, 96]  # only b has a value around 50
    assert a.y == pytest.approx([0.3, 0.2])
    assert b.y == pytest.approx([0.7, 0.7])


def test_curves_of_the_same_steps_stay_as_they_are():
    columns = {key: {"step": [1, 2], "value": [0.5, None]} for key in "ab"}
    lines = [curves.line(columns, key, key, colors.BLUE) for key in "ab"]
    assert curves.in_stretches(lines) == lines
    assert curves.in_stretches([]) == []


def test_the_answer_of_compare_is_read_by_run():
    answer = {"jobs": {"job_1": {"name": "a", "keys": COLUMNS}, "job_2": {"name": "b", "keys": {}}}}
    assert curves.by_run(answer) == {"job_1": COLUMNS, "job_2": {}}


def test_columns_of_unequal_length_are_an_error():
    with pytest.raises(ValueError, match="2 steps and 1 values"):
        curves.best({"a": {"step": [1, 2], "value": [0.5]}}, "a")
