from dashboard.differences import differing, flat, in_order

ASYM = {
    "name": "asym",
    "algorithm": {"preset": "asymgrpo", "beta_pos": 0.9, "kl_coef": 0.0},
    "optim": {"lr": 2e-6},
    "eval": [{"name": "held", "every": 10, "k": [1, 8]}],
    "seed": 0,
}
GRPO = {
    "name": "grpo",
    "algorithm": {"preset": "grpo", "beta_pos": None, "kl_coef": 0.0},
    "optim": {"lr": 2e-6},
    "eval": [{"name": "held", "every": 20, "k": [1, 8]}, {"name": "aime", "every": 10, "k": [1]}],
    "seed": 0,
}


def test_only_what_differs_is_listed_in_the_order_of_the_spec():
    assert differing([ASYM, GRPO]) == {
        "algorithm.preset": ["asymgrpo", "grpo"],
        "algorithm.beta_pos": ["0.9", "null"],
        "eval[held].every": ["10", "20"],
        "eval[aime].every": ["–", "10"],
        "eval[aime].k": ["–", "1"],
    }


def test_the_same_configuration_under_another_name_differs_in_nothing():
    assert differing([ASYM, {**ASYM, "name": "again"}]) == {}


def test_one_run_of_three_is_enough_to_differ():
    assert differing([ASYM, ASYM, {**ASYM, "seed": 7}]) == {"seed": ["0", "0", "7"]}


def test_false_differs_from_absent_and_from_null():
    assert differing([{"a": False}, {"a": None}, {}]) == {"a": ["false", "null", "–"]}


def test_the_order_of_benchmarks_is_no_difference():
    parts = [{"name": "a", "every": 1}, {"name": "b", "every": 2}]
    assert differing([{"eval": parts}, {"eval": parts[::-1]}]) == {}


def test_nested_sections_become_paths():
    assert flat({"optim": {"adam": {"beta": 0.9}}, "k": [1, 2]}) == {"optim.adam.beta": 0.9, "k": [1, 2]}


def test_a_spec_is_read_from_its_name_to_its_seed():
    shuffled = {"seed": 0, "algorithm": {"clip_low": 0.2, "beta_pos": 0.9, "preset": "asymgrpo"}, "name": "a", "new": 1}
    ordered = in_order(shuffled)
    assert list(ordered) == ["name", "algorithm", "seed", "new"]
    assert list(ordered["algorithm"]) == ["preset", "beta_pos", "clip_low"]
    assert ordered == shuffled
