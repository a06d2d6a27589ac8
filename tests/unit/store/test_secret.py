"""The server's secret: made once, private, and never shown."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from store.errors import SettingsError
from store.secret import server_secret
from store.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", artifacts=tmp_path / "artifacts")


def test_the_first_start_makes_it_and_everyone_gets_the_same(settings):
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: server_secret(settings), range(16)))
    assert len(made) == 1
    assert stat.S_IMODE(settings.secret_file.stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["secret"]
    written = settings.secret_file.read_text().strip()
    secret = made.pop()
    assert len(written) == 64
    assert written not in f"{secret!r} {secret} {secret.id}"


def test_a_secret_of_ones_own(settings):
    own = settings.model_copy(update={"secret": SecretStr("0123456789abcdef")})
    assert server_secret(own).id != server_secret(settings).id
    assert server_secret(own).hmac("a", "x") != server_secret(own).hmac("b", "x")
    with pytest.raises(SettingsError, match="ASYM_SECRET") as raised:
        server_secret(settings.model_copy(update={"secret": SecretStr("canary")}))
    assert "canary" not in str(raised.value)


def test_a_secret_that_others_may_read_is_refused(settings):
    server_secret(settings)
    settings.secret_file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        server_secret(settings)


def test_an_empty_secret_is_refused(settings):
    server_secret(settings)
    settings.secret_file.write_text("")
    with pytest.raises(SettingsError, match="too short"):
        server_secret(settings)
