"""A wrong setting is named, and no message shows a password."""

import pytest

from store.database import sqlalchemy_url
from store.errors import SettingsError
from store.settings import Settings


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
@pytest.mark.parametrize("variable", ["ASYM_LEASE_SECONDS", "ASYM_SWEEP_SECONDS", "ASYM_MAX_UPLOAD_BYTES"])
def test_a_wrong_number_is_named(variable, value):
    with pytest.raises(SettingsError, match=variable):
        Settings.from_environment({variable: value})


def test_every_wrong_one_is_named():
    with pytest.raises(SettingsError, match=r"ASYM_LEASE_SECONDS.*ASYM_SWEEP_SECONDS"):
        Settings.from_environment({"ASYM_LEASE_SECONDS": "x", "ASYM_SWEEP_SECONDS": "y"})


def test_an_empty_variable_is_an_unset_one():
    assert Settings.from_environment({"ASYM_LEASE_SECONDS": "", "ASYM_HOME": ""}) == Settings.from_environment({})


def test_object_stores_are_refused():
    with pytest.raises(SettingsError, match=r"ASYM_ARTIFACTS=s3://bucket/a.*not supported"):
        Settings.from_environment({"ASYM_ARTIFACTS": "s3://bucket/a"})


@pytest.mark.parametrize("wrong", ["mysql://u:secret@h/d", "secret", "postgresql://u:secret@h:port/d"])
def test_a_wrong_database_address_is_named_and_not_shown(wrong):
    with pytest.raises(SettingsError, match="ASYM_DATABASE_URL") as caught:
        sqlalchemy_url(wrong)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("https://secret@judge/score", "is no NAME=URL"),
        ("judge", "'judge' is no NAME=URL"),
        ("=http://secret", "is no NAME=URL"),
        ("my judge=http://secret", "'my judge' is no NAME=URL"),
        ("judge=secret/score", "judge has no address like"),
        ("judge=file:///secret", "judge has no address like"),
        ("judge=http://", "judge has no address like"),
        ("judge=http://secret:port/", "judge has no address like"),
        ("judge=http://secret /x", "judge has no address like"),
        ("judge=http://secret,judge=http://b", "judge is given twice"),
    ],
)
def test_a_wrong_http_verifier_is_named_and_its_address_not_shown(value, says):
    with pytest.raises(SettingsError, match="ASYM_HTTP_VERIFIERS") as caught:
        Settings.from_environment({"ASYM_HTTP_VERIFIERS": value})
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
