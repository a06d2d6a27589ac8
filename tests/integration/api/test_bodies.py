"""Bodies as nobody means them: too large, and any JSON at all; of every route of the document that takes one."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.main import MAX_JSON_BYTES, MULTIPART_BYTES, UPLOADS
from store.access import Role

JSON = "application/json"


def taking_bodies(app):
    """(method, path, media type) of every route that takes a body."""
    return [
        (method.upper(), path.replace("{", "").replace("}", ""), kind)
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        for kind in operation.get("requestBody", {}).get("content", {})
    ]


def test_a_body_that_is_too_large_is_a_413_on_every_route_that_takes_one(app, caller):
    admin = caller(Role.ADMIN)
    routes = taking_bodies(app)
    assert len(routes) >= 9
    assert {path for _, path, kind in routes if kind != JSON} == set(UPLOADS)
    for method, path, kind in routes:
        headers = {"Content-Type": kind if kind == JSON else f"{kind}; boundary=b"}
        if kind == JSON:
            body = b'{"x": "' + b"x" * MAX_JSON_BYTES + b'"}'
        else:
            # Told beforehand how much comes, it reads none of it.
            headers["Content-Length"] = str(app.state.api.settings.max_upload_bytes + MULTIPART_BYTES + 1)
            body = b"--b\r\n"
        answer = admin.request(method, path, content=body, headers=headers)
        assert answer.status_code == 413, (method, path, answer.text[:200])
        said = answer.json()
        assert said.get("status") == 413 or said["error"]["type"], (method, path)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def bent(draw, whole):
    """A body that is right but for one place somewhere in it, which holds anything or is gone."""
    body = json.loads(json.dumps(whole))
    place = body
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()):
            place[key] = draw(anything)
        elif isinstance(place, dict):
            place[draw(st.text(max_size=12))] = place.pop(key)
        return body


def sent(body) -> bytes:
    # NaN and lone surrogates as well: what is on the wire need not be what Python would send.
    return json.dumps(body, allow_nan=True).encode("utf-8", "surrogatepass")


relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def test_any_json_as_a_body_is_answered_and_never_a_500(app, caller):
    admin = caller(Role.ADMIN)
    routes = [(method, path) for method, path, kind in taking_bodies(app) if kind == JSON]

    @relaxed
    @given(st.sampled_from(routes), anything)
    def check(route, body):
        method, path = route
        answer = admin.request(method, path, content=sent(body), headers={"Content-Type": JSON})
        assert answer.status_code < 500, (route, body, answer.text)

    check()


@pytest.mark.parametrize("path", ["/jobs", "/jobs/validate"])
def test_a_spec_with_anything_in_one_place_is_answered_and_never_a_500(path, caller, make_dataset, make_spec):
    member = caller(Role.MEMBER)
    dataset = make_dataset(member.key.identity).id
    whole = make_spec(dataset, eval=[{"name": "e", "data": dataset, "k": [1]}]).model_dump(mode="json")

    @relaxed
    @given(bent(whole | {"tags": ["a"], "notes": "b"}))
    def check(body):
        answer = member.request("POST", path, content=sent(body), headers={"Content-Type": JSON})
        assert answer.status_code < 500, (body, answer.text)

    check()
