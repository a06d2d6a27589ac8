"""Plans of many jobs: which jobs they are, and what is refused."""

import math

import pytest
from pydantic import ValidationError

from trainer.spec.sweep import MAX_MEMBERS, SweepError, SweepSpec, members

BASE = {
    "name": "b",
    "model": {"id": "builtin/tiny-arith"},
    "data": {"train": "ds_x"},
    "reward": {"kind": "exact"},
    "train": {"steps": 5},
}


def plan(search, base=BASE, **more):
    return SweepSpec.model_validate({"name": "s", "base": base, "search": search, **more})


def grid(**parameters):
    return {"kind": "grid", "parameters": {path.replace("__", "."): values for path, values in parameters.items()}}


def test_a_grid_is_every_combination_with_every_seed_in_order():
    found = members(plan(grid(algorithm__beta_pos=[0.0, 0.9], optim__lr=[1e-4, 1e-3]), seeds=[3, 5]))
    assert [(each.point["algorithm.beta_pos"], each.point["optim.lr"], each.seed) for each in found] == [
        (beta, rate, seed) for beta in (0.0, 0.9) for rate in (1e-4, 1e-3) for seed in (3, 5)
    ]
    for each in found:
        assert each.job.algorithm.beta_pos == each.point["algorithm.beta_pos"]
        assert each.job.optim.lr == each.point["optim.lr"]
        assert (each.job.seed, each.job.train.steps) == (each.seed, 5)
    assert found[-1].job.name == "b-beta_pos0.9-lr0.001-seed5"


def test_draws_are_the_same_each_time_and_within_their_ends():
    search = {
        "kind": "random",
        "samples": 200,
        "seed": 4,
        "parameters": {
            "optim.lr": {"low": 1e-6, "high": 1e-2, "scale": "log"},
            "algorithm.beta_neg": {"low": 0.0, "high": 1.0},
            "rollout.group_size": {"low": 2.0, "high": 9.0, "integer": True},
            "algorithm.preset": ["asymgrpo", "asymgrpo_clip_higher"],
        },
    }
    found = members(plan(search))
    assert found == members(plan(search))
    assert found != members(plan({**search, "seed": 5}))
    rates = [each.job.optim.lr for each in found]
    assert all(1e-6 <= rate <= 1e-2 for rate in rates)
    # On a log scale half of them lie below the geometric middle.
    assert 0.4 < sum(rate < 1e-4 for rate in rates) / len(rates) < 0.6
    assert {each.job.rollout.group_size for each in found} == set(range(2, 10))
    assert {each.job.algorithm.preset for each in found} == {"asymgrpo", "asymgrpo_clip_higher"}
    assert all(float(f"{rate:.4g}") == rate for rate in rates)


def test_equal_combinations_are_one():
    found = members(plan({"kind": "list", "points": [{"optim.lr": 1e-3}, {"optim.lr": 0.001}, {"optim.lr": 1e-4}]}))
    assert [each.job.optim.lr for each in found] == [1e-3, 1e-4]


def test_null_takes_a_field_back_to_its_default():
    base = {**BASE, "optim": {"lr": 1e-3}}
    found = members(plan({"kind": "list", "points": [{"optim.lr": None}, {}]}, base))
    assert [each.job.optim.lr for each in found] == [2e-6, 1e-3]


def test_names_are_what_a_job_may_be_called():
    found = members(plan({"kind": "list", "points": [{"data.system_prompt": "Put ü / <b> in " + "x" * 90}]}))
    assert len(found[0].job.name) == 64
    assert found[0].job.name.startswith("b-system_promptPut----")


@pytest.mark.parametrize(
    ("search", "base", "loc", "said"),
    [
        (
            grid(algorithm__beta_poz=[1.0]),
            BASE,
            ("search", "parameters", "algorithm.beta_poz"),
            "1.0: there is no such field",
        ),
        (
            grid(optim__lr=[1e-3, "fast"]),
            BASE,
            ("search", "parameters", "optim.lr"),
            '"fast": Input should be a valid number',
        ),
        (grid(algorithm__preset=["grop"]), BASE, ("search", "parameters", "algorithm.preset"), '"grop": '),
        (grid(optim__lr=[1e-3]), {**BASE, "model": {}}, ("base", "model", "id"), "Field required"),
        (grid(optim__lr=[1e-3]), {**BASE, "tarin": 1}, ("base", "tarin"), "Extra inputs"),
        ({"kind": "list", "points": [{"optim": 3}]}, BASE, ("search", "points", 0, "optim"), "3: "),
    ],
)
def test_what_is_wrong_is_told_where_it_was_written(search, base, loc, said):
    with pytest.raises(SweepError) as refused:
        members(plan(search, base))
    (error,) = refused.value.errors
    assert error["loc"] == loc
    assert error["msg"].startswith(said)


@pytest.mark.parametrize(
    ("search", "more", "said"),
    [
        (grid(optim__lr=[i / 1000 for i in range(1, 101)], rollout__temperature=[i / 100 for i in range(1, 101)]), {},
         "10000 combinations with 1 seeds are 10000 jobs; a sweep has at most"),
        (grid(optim__lr=[i / 1000 for i in range(1, 101)]), {"seeds": list(range(6))}, "600 jobs"),
        (grid(seed=[1, 2]), {}, "name `seeds` instead"),
        (grid(name=["a"]), {}, "name is each member's own"),
        (grid(**{"optim": [1], "optim__lr": [1e-3]}), {}, "optim.lr lies within optim"),
        (grid(**{"Optim.lr": [1e-3]}), {}, "pattern"),
        (grid(**{"optim.lr.": [1e-3]}), {}, "pattern"),
        (grid(**{"__class__": [1]}), {}, "pattern"),
        (grid(optim__lr=[]), {}, "at least 1"),
        ({"kind": "grid", "parameters": {}}, {}, "at least 1"),
        ({"kind": "random", "samples": 3, "parameters": {"optim.lr": {"low": 2.0, "high": 1.0}}}, {}, "below high"),
        ({"kind": "random", "samples": 3, "parameters": {"optim.lr": {"low": 0.0, "high": 1.0, "scale": "log"}}}, {},
         "above 0"),
        ({"kind": "random", "samples": 3, "parameters": {"optim.lr": {"low": 0.5, "high": 2.0, "integer": True}}}, {},
         "whole numbers"),
        ({"kind": "random", "samples": MAX_MEMBERS + 1, "parameters": {"optim.lr": [1e-3]}}, {}, "less than or equal"),
        (grid(optim__lr=[1e-3]), {"seeds": [1, 1]}, "each of them once"),
        (grid(optim__lr=[math.inf]), {}, "finite"),
        ({"kind": "bayes"}, {}, "'grid', 'random', 'list'"),
        (grid(optim__lr=[1e-3]), {"budget": {"hours": 0}}, "greater than 0"),
    ],
)  # fmt: skip
def test_plans_that_are_none(search, more, said):
    with pytest.raises(ValidationError, match=r"(?s)" + said.replace("(", r"\(")):
        plan(search, **more)
