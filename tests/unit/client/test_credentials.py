import json
import stat
from pathlib import Path

import pytest

from client.credentials import (
    Credentials,
    credentials_file,
    find_credentials,
    home_folder,
    read_credentials,
    write_credentials,
)
from client.errors import NoCredentials

FILED = Credentials("http://127.0.0.1:8000", "asym_filed", "http://127.0.0.1:8501")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ASYM_API_URL", "ASYM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASYM_HOME", str(tmp_path))


def test_written_credentials_are_read_back_and_private(tmp_path: Path) -> None:
    write_credentials(tmp_path, FILED)
    assert read_credentials(tmp_path) == FILED
    assert stat.S_IMODE(credentials_file(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]


def test_the_file_is_what_the_contract_says(tmp_path: Path) -> None:
    write_credentials(tmp_path, FILED)
    assert set(json.loads(credentials_file(tmp_path).read_text())) == {"api_url", "api_key", "dashboard_url"}


def test_nothing_known_says_what_to_do() -> None:
    with pytest.raises(NoCredentials) as raised:
        find_credentials()
    assert "asym up" in str(raised.value)
    assert "ASYM_API_URL" in str(raised.value)


def test_the_file_serves_when_the_environment_is_silent(tmp_path: Path) -> None:
    write_credentials(tmp_path, FILED)
    assert find_credentials() == FILED


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_credentials(tmp_path, FILED)
    monkeypatch.setenv("ASYM_API_URL", "https://asym.example/")
    monkeypatch.setenv("ASYM_API_KEY", "asym_other")
    assert find_credentials() == Credentials("https://asym.example", "asym_other", None)


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYM_API_URL", "https://asym.example")
    monkeypatch.setenv("ASYM_API_KEY", "asym_other")
    assert find_credentials("http://here:1", "asym_mine") == Credentials("http://here:1", "asym_mine", None)


def test_the_filed_key_is_not_shown_to_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_credentials(tmp_path, FILED)
    monkeypatch.setenv("ASYM_API_URL", "https://asym.example")
    with pytest.raises(NoCredentials, match=r"no API key for https://asym\.example"):
        find_credentials()


def test_a_home_asked_for_by_name_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYM_API_URL", "https://asym.example")
    monkeypatch.setenv("ASYM_API_KEY", "asym_other")
    home = tmp_path / "named"
    home.mkdir()
    write_credentials(home, FILED)
    assert find_credentials(home=home) == FILED


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    credentials_file(tmp_path).write_text('{"api_url": 3')
    with pytest.raises(NoCredentials, match=r"credentials\.json"):
        find_credentials()


def test_the_key_does_not_show_in_a_repr() -> None:
    assert "asym_filed" not in repr(FILED)


def test_the_home_is_absolute_and_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_folder("~/x") == tmp_path / "x"
    monkeypatch.delenv("ASYM_HOME")
    assert home_folder() == tmp_path / ".asym"
