"""A sweep as a table."""

from dashboard import sweep


def spec(pos, neg, seed, **more):
    return {"seed": seed, "algorithm": {"beta_pos": pos, "beta_neg": neg, "preset": "asymgrpo"}, **more}


SPECS = {
    "a": spec(0.5, 0.0, 0),
    "b": spec(0.5, 0.4, 0),
    "c": spec(0.9, 0.4, 0),
    "d": spec(0.9, 0.4, 1),
}


def test_fields_of_a_sweep_are_numbers_that_differ_the_seed_apart():
    others = [spec(0.5, 0, 0, optim={"lr": 1, "offload": True}), spec(0.9, 0.4, 1, optim={"lr": 2, "offload": False})]
    assert sweep.fields(others) == ["algorithm.beta_pos", "algorithm.beta_neg", "optim.lr"]
    assert sweep.fields([others[0], others[0]]) == []


def test_a_cell_is_the_mean_over_its_runs_and_a_pair_that_nobody_ran_is_empty():
    scores = {"a": 0.1, "b": 0.2, "c": 0.4, "d": 0.6}
    grid = sweep.grid("m", "", SPECS, "algorithm.beta_pos", "algorithm.beta_neg", scores, fraction=True)
    assert grid.rows == ("algorithm.beta_pos", ["0.5", "0.9"])
    assert grid.columns == ("algorithm.beta_neg", ["0", "0.4"])
    (first, second), (third, fourth) = grid.cells
    assert (first.value, second.value, third) == (0.1, 0.2, None)
    assert (fourth.value, fourth.note) == (0.5, "± 14.1 %, n = 2")
    assert fourth.text == "mean of 2: 40.0 %, 60.0 %"


def test_a_run_that_has_not_measured_it_is_left_out():
    scores = {"a": None, "b": 0.2, "c": 0.4, "d": None}
    grid = sweep.grid("m", "", SPECS, "algorithm.beta_pos", "algorithm.beta_neg", scores, fraction=False)
    assert grid.cells[0][0] is None
    assert grid.cells[1][1].note == "n = 1"
