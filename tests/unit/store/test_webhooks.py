"""Where webhooks may go by name, and how their deliveries are signed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from store.secret import ServerSecret
from store.webhooks import signing, turns
from store.webhooks.targets import TargetRefused, checked_url, parse_hosts

ALLOWED = [
    ("https://example.com/a?b=c", "example.com"),
    ("https://a.b.example.com", "example.com"),
    ("https://EXAMPLE.com./x", "example.com"),
    ("https://example.com:8443/", "*"),
    ("http://hooks.intern/", "hooks.intern"),
    ("http://10.0.0.7:9000/", "10.0.0.7"),
    ("https://[fd00::7]/", "fd00::7"),
]
REFUSED = [
    ("https://example.com/", ""),
    ("https://example.com.evil.org/", "example.com"),
    ("https://evilexample.com/", "example.com"),
    ("https://example.com@evil.org/", "example.com"),
    ("https://evil.org\\@example.com/", "example.com"),
    ("https://evil.org#@example.com/", "example.com"),
    ("https://u:p@example.com/", "example.com"),
    ("http://example.com/", "*"),
    ("https://10.0.0.7/", "*"),
    ("https://[::1]/", "*"),
    ("https://1.10.0.0.7/", "10.0.0.7"),
    ("file:///etc/passwd", "*"),
    ("https:///path", "*"),
    ("https://exa mple.com/", "*"),
    ("https://example.com:0/", "*"),
    ("//example.com/", "*"),
    ("", "*"),
]


@pytest.mark.parametrize(("url", "hosts"), ALLOWED)
def test_hosts_that_are_named_may_be_called(url, hosts):
    assert checked_url(url, parse_hosts(hosts))


@pytest.mark.parametrize(("url", "hosts"), REFUSED)
def test_no_other_host_may(url, hosts):
    with pytest.raises(TargetRefused):
        checked_url(url, parse_hosts(hosts))


@given(st.text(max_size=60))
def test_whatever_is_written_is_refused_or_of_a_host_that_is_named(written):
    for url in (written, f"https://{written}", f"https://{written}example.com/", f"https://example.com{written}"):
        try:
            found = checked_url(url, ["example.com"])
        except TargetRefused:
            continue
        host = found.partition("://")[2].partition("/")[0].partition("?")[0].partition(":")[0].removesuffix(".")
        assert host.lower() == "example.com" or host.lower().endswith(".example.com")


@pytest.mark.parametrize("text", ["https://example.com", "a b", "example.com/path", "*.example.com", "-a"])
def test_what_is_no_host_is_refused(text):
    with pytest.raises(ValueError, match="is no host"):
        parse_hosts(text)


def test_hosts_are_read_as_people_write_them():
    assert parse_hosts(" Example.com. , 10.0.0.1,[::1],,*") == ["example.com", "10.0.0.1", "::1", "*"]


def test_the_signature_is_the_one_of_the_specifications_library():
    secret = signing.secret_of(ServerSecret(b"0" * 32), "hook_1", 1)
    now = datetime.now(UTC).replace(microsecond=0)
    body = '{"type": "job.failed", "data": "ü"}'
    made = signing.headers([secret], 7, int(now.timestamp()), body.encode())
    assert made["webhook-signature"] == Webhook(secret).sign("dlv_7", now, body)
    assert Webhook(secret).verify(body, made)["type"] == "job.failed"


def test_each_webhook_version_and_server_has_a_secret_of_its_own():
    one, two = ServerSecret(b"0" * 32), ServerSecret(b"1" * 32)
    made = [(one, "hook_1", 1), (one, "hook_1", 2), (one, "hook_2", 1), (two, "hook_1", 1)]
    assert len({signing.secret_of(*each) for each in made}) == 4
    assert signing.secret_of(*made[0]) == signing.secret_of(*made[0])


def test_waits_double_up_to_a_day():
    for tries in range(1, 40):
        longest = min(5.0 * 2 ** (tries - 1), 86_400.0)
        assert all(longest / 2 <= turns.wait_seconds(tries) <= longest for _ in range(20))
