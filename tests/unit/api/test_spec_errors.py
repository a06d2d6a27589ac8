"""pydantic's errors, told in the request's own terms."""

import math

import pytest
from pydantic import ValidationError

from api.spec_errors import readable_errors, request_errors
from trainer.spec import JobSpec

SPEC = {
    "name": "n",
    "model": {"id": "builtin/tiny-arith"},
    "data": {"train": "ds_x"},
    "reward": {"kind": "exact"},
}


def errors_of(**sections):
    body = SPEC | sections
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(body)
    return readable_errors(caught.value.errors(), body)


def test_the_branches_of_a_union_become_one_error_at_the_field():
    [error] = errors_of(resources={"gpus": "all"})
    assert error["loc"] == ["body", "resources", "gpus"]
    assert error["msg"] == "Input should be 'auto' or a valid integer"


def test_the_tag_of_a_union_is_not_part_of_the_place():
    [error] = errors_of(algorithm={"beta_pos": math.inf})
    assert error == {"loc": ["body", "algorithm", "beta_pos"], "msg": "Input should be a finite number"}


def test_a_missing_field_inside_a_union_is_named():
    [error] = errors_of(algorithm={"beta_pos": {"kind": "linear", "start": 1.0, "end": 0.5}})
    assert error == {"loc": ["body", "algorithm", "beta_pos", "steps"], "msg": "is missing"}


def test_an_index_is_part_of_the_place():
    [error] = errors_of(eval=[{"name": "a", "data": "ds_x"}, {"name": "b", "data": "ds_x", "sample": 4}])
    assert error == {"loc": ["body", "eval", 1, "sample"], "msg": "unknown key"}


def test_the_words_of_a_check_are_kept_without_pydantics_prefix():
    [error] = errors_of(eval=[{"name": "a", "data": "ds_x", "k": [4]}])
    assert error == {"loc": ["body", "eval", 0], "msg": "pass@4 needs at least 4 samples, got 1"}


def test_a_body_that_is_no_object_is_at_fault_as_a_whole():
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate([1])
    [error] = readable_errors(caught.value.errors(), [1])
    assert error["loc"] == ["body"]


def test_places_outside_the_body_are_left_as_they_are():
    found = [
        {"type": "greater_than_equal", "loc": ("query", "limit"), "msg": "Input should be 1 or more", "input": "0"},
        {"type": "json_invalid", "loc": ("body", 7), "msg": "JSON decode error", "ctx": {"error": "Expecting value"}},
    ]
    assert request_errors(found, None) == [
        {"loc": ["query", "limit"], "msg": "Input should be 1 or more"},
        {"loc": ["body"], "msg": "not valid JSON at character 7: Expecting value"},
    ]
