from pathlib import Path

import pytest

from store.database import libpq_url, sqlalchemy_url
from store.errors import SettingsError
from store.settings import Settings


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings.from_environment({})
    assert settings.home == tmp_path / ".asym"
    assert settings.artifacts == tmp_path / ".asym" / "artifacts"
    assert settings.credentials_file == tmp_path / ".asym" / "credentials.json"
    assert settings.hf_allowlist == []
    assert settings.lease_seconds == 15
    assert settings.max_upload_bytes == 2 * 1024**3
    assert (settings.http_verifiers, settings.sandbox) == ({}, None)


def test_everything_set(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {
            "ASYM_HOME": str(tmp_path),
            "ASYM_DATABASE_URL": "postgresql://u:hunter2@h/d",
            "ASYM_BROKER_URL": "redis://h",
            "ASYM_ARTIFACTS": str(tmp_path / "a"),
            "ASYM_MODELS_DIR": str(tmp_path / "m"),
            "ASYM_HF_ALLOWLIST": "Qwen/Qwen3-0.6B, a/b,",
            "ASYM_LEASE_SECONDS": "2.5",
            "ASYM_SWEEP_SECONDS": "1",
            "ASYM_MAX_UPLOAD_BYTES": "1000",
            "ASYM_HTTP_VERIFIERS": "judge=https://u:hunter2@judge/score?a=b, other=http://127.0.0.1:8001/,",
            "ASYM_SANDBOX": "bubblewrap",
        }
    )
    assert settings.require_database_url() == "postgresql://u:hunter2@h/d"
    assert settings.require_broker_url() == "redis://h"
    assert settings.hf_allowlist == ["Qwen/Qwen3-0.6B", "a/b"]
    assert (settings.lease_seconds, settings.sweep_seconds, settings.max_upload_bytes) == (2.5, 1, 1000)
    assert settings.models_dir == tmp_path / "m"
    assert {name: url.get_secret_value() for name, url in settings.http_verifiers.items()} == {
        "judge": "https://u:hunter2@judge/score?a=b",
        "other": "http://127.0.0.1:8001/",
    }
    assert settings.sandbox == "bubblewrap"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ASYM_ARTIFACTS", "s3://bucket/prefix"),
        ("ASYM_LEASE_SECONDS", "soon"),
        ("ASYM_LEASE_SECONDS", "0"),
        ("ASYM_MAX_UPLOAD_BYTES", "-1"),
        ("ASYM_SANDBOX", "docker"),
    ],
)
def test_a_wrong_one_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.from_environment({variable: value})


def test_a_missing_address_says_what_to_do() -> None:
    settings = Settings.from_environment({})
    with pytest.raises(SettingsError, match=r"ASYM_DATABASE_URL is not set.*asym up"):
        settings.require_database_url()
    with pytest.raises(SettingsError, match="ASYM_BROKER_URL is not set"):
        settings.require_broker_url()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgres_addresses(scheme: str) -> None:
    url = f"{scheme}://u:p%40ss@h:5433/d?sslmode=require"
    assert sqlalchemy_url(url).drivername == "postgresql+psycopg"
    assert libpq_url(url) == "postgresql://u:p%40ss@h:5433/d?sslmode=require"


def test_no_other_database() -> None:
    with pytest.raises(SettingsError, match="PostgreSQL"):
        sqlalchemy_url("sqlite:///asym.db")
