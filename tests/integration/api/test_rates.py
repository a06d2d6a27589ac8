"""Limits of speed, time and number: rates in a real Valkey, requests that hang, streams without end."""

import asyncio
import socket
import time

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from api.limits import gcra
from api.limits.gcra import Bucket, Rates, redis_address
from api.limits.rates import network_of
from api.main import create_app
from store import keys
from store.access import Role


@pytest.fixture
def serve(settings, make_key):
    """serve(**settings) -> (an httpx client in the application's own loop, a key); use `async with`."""

    class Serving:
        def __init__(self, **changes):
            self.app = create_app(settings.model_copy(update=changes))
            self.key = make_key(Role.ADMIN)

        async def __aenter__(self):
            self._life = self.app.router.lifespan_context(self.app)
            await self._life.__aenter__()
            transport = httpx.ASGITransport(self.app, client=("192.0.2.1", 1))
            self.http = httpx.AsyncClient(transport=transport, base_url="http://api")
            return self

        async def __aexit__(self, *_):
            await self.http.aclose()
            await self._life.__aexit__(None, None, None)

        async def get(self, path="/presets", key=None):
            plain = self.key.plain if key is None else key
            return await self.http.get(path, headers={"Authorization": f"Bearer {plain}"})

    return Serving


SLOW = {"key_requests_per_second": 0.001, "key_burst": 3}


def test_a_key_that_asks_too_fast_waits_and_others_do_not(serve, make_key):
    async def run():
        async with serve(**SLOW) as api:
            answers = [await api.get() for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            told = [answer.headers["ratelimit"] for answer in answers]
            assert [each.partition(";t=")[0] for each in told] == [f'"key";r={left}' for left in (2, 1, 0, 0)]
            refused = answers[3]
            assert refused.headers["ratelimit-policy"] == '"key";q=3;w=3000'
            assert 990 <= int(refused.headers["retry-after"]) <= 1000
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["type"] == "urn:asym:problem:too-many-requests"
            assert (await api.get(key=make_key().plain)).status_code == 200
            assert (await api.http.get("/healthz")).status_code == 200

    asyncio.run(run())


def test_two_processes_share_a_rate(serve):
    async def run():
        async with serve(**SLOW) as one, serve(**SLOW) as other:
            other.key = one.key
            assert [(await api.get()).status_code for api in (one, other, one, other)] == [200, 200, 200, 429]

    asyncio.run(run())


def test_an_address_that_asks_too_fast_waits_whatever_its_key(serve, make_key):
    async def run():
        async with serve(address_requests_per_second=0.001, address_burst=2) as api:
            assert [(await api.get(key=make_key().plain)).status_code for _ in range(3)] == [200, 200, 429]
            assert (await api.http.get("/presets")).status_code == 429

    asyncio.run(run())


def test_who_tries_keys_is_stopped_before_the_database_is_asked(serve, database):
    async def run():
        async with serve(wrong_keys_per_minute=3) as api:
            tried = [await api.get(key=keys.new_key()) for _ in range(5)]
            assert [answer.status_code for answer in tried] == [401, 401, 401, 429, 429]
            assert "wrong keys" in tried[3].json()["detail"]
            assert (await api.get()).status_code == 429, "the right key, too, from that address"
            with database.transaction() as session:
                assert session.scalars(text("SELECT count(*) FROM audit_log")).one() == 3

    asyncio.run(run())


def test_mistyped_keys_lock_nobody_out(serve):
    async def run():
        async with serve(wrong_keys_per_minute=1) as api:
            wrong = api.key.plain[:-1] + ("a" if api.key.plain[-1] != "a" else "b")
            assert [(await api.get(key=wrong)).status_code for _ in range(5)] == [401] * 5
            assert (await api.get()).status_code == 200

    asyncio.run(run())


def test_without_redis_everything_is_let_through_and_nobody_waits(serve, caplog):
    async def run():
        nobody = SecretStr("redis://127.0.0.1:9/0")
        async with serve(broker_url=nobody, **SLOW) as api:
            began = time.monotonic()
            assert [(await api.get()).status_code for _ in range(20)] == [200] * 20
            assert time.monotonic() - began < 5
        assert caplog.text.count("rates are not limited while Redis is away") == 1

    asyncio.run(run())


def test_a_dead_redis_is_not_asked_for_a_while_and_then_again(caplog, broker_url):
    now = [100.0]
    bucket = Bucket("key", "k", 1.0, 10)

    async def run():
        rates = Rates("redis://127.0.0.1:9/0", clock=lambda: now[0])
        assert await rates.ask([bucket]) is None
        alive = Rates(broker_url)
        rates._script = alive._script
        assert await rates.ask([bucket]) is None, "not asked"
        now[0] += gcra.PAUSE_SECONDS
        (standing,) = await rates.ask([bucket])
        assert standing.remaining == 9
        await rates.close()
        await alive.close()

    asyncio.run(run())
    assert "rates are limited again" in caplog.text


def test_a_redis_that_hangs_holds_one_request_up_for_a_moment():
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def run():
            rates = Rates(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
            began = time.monotonic()
            assert [await rates.ask([Bucket("key", "k", 1.0, 1)]) for _ in range(100)] == [None] * 100
            await rates.close()
            return time.monotonic() - began

        assert asyncio.run(run()) < 2


def test_a_bucket_fills_again_and_never_beyond_its_burst(broker_url):
    async def run():
        rates = Rates(broker_url)
        bucket = Bucket("key", "k", 1000.0, 2)
        assert [(await rates.ask([bucket]))[0].wait_seconds > 0 for _ in range(2)] == [False, False]
        while (await rates.ask([Bucket("key", "k", 1000.0, 2, take=False)]))[0].remaining < 2:
            pass
        (full,) = await rates.ask([Bucket("key", "k", 1000.0, 2, take=False)])
        assert (full.remaining, full.wait_seconds) == (2, 0)
        slow = Bucket("address", "a", 0.001, 1)
        assert [standing.wait_seconds for standing in await rates.ask([slow])] == [0]
        refused = await rates.ask([bucket, slow])
        assert refused[1].wait_seconds > 900
        assert refused[0].remaining == 2, "nothing is taken from one when another refuses"
        await rates.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("broker", "address"),
    [
        ("redis://:p@h:6379/1", "redis://:p@h:6379/1"),
        ("redis+socket:///run/v.sock?virtual_host=3", "unix:///run/v.sock?db=3"),
        ("redis+socket:///run/v.sock", "unix:///run/v.sock?db=0"),
        ("amqp://h", None),
    ],
)
def test_the_brokers_address(broker, address):
    assert redis_address(broker) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_whose_address(address, network):
    assert network_of(address) == network


def test_a_request_that_hangs_is_answered(serve, database):
    async def run():
        async with serve(request_seconds=0.2) as api:
            with database.transaction() as session:
                session.execute(text("LOCK TABLE datasets"))
                late = await api.get("/datasets")
            assert (late.status_code, late.json()["type"]) == (504, "urn:asym:problem:timeout")
            assert late.headers["retry-after"] == "5"
            assert (await api.get("/presets")).status_code == 200

    asyncio.run(run())


def test_a_key_holds_so_many_streams_and_no_more(start_server, make_key, make_dataset, make_spec, database):
    from store import jobs, journal

    key = make_key(Role.ADMIN)
    dataset = make_dataset(key.identity)
    with database.transaction() as session:
        job, _ = jobs.create(session, key.identity, make_spec(dataset.id))
    url = f"{start_server(ASYM_WATCHERS_PER_KEY='2')}/jobs/{job.id}/events"
    other = make_key(Role.VIEWER, key.identity.team_id)

    def headers(plain):
        return {"Authorization": f"Bearer {plain}", "Accept": "text/event-stream"}

    with httpx.Client() as http:
        with (
            http.stream("GET", url, headers=headers(key.plain)) as one,
            http.stream("GET", url, headers=headers(key.plain)) as two,
        ):
            assert (one.status_code, two.status_code) == (200, 200)
            refused = http.get(url, headers=headers(key.plain))
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:asym:problem:too-many-watchers")
            assert refused.headers["retry-after"]
            with http.stream("GET", url, headers=headers(other.plain)) as another:
                assert another.status_code == 200
        deadline = time.monotonic() + 20
        while True:  # the server notices at its next write that they are gone, or at its next heartbeat
            with database.transaction() as session:
                journal.append(session, [journal.event_row(job.id, 0, "message", "news", {})])
                journal.announce(session, job.id)
            with http.stream("GET", url, headers=headers(key.plain)) as again:
                if again.status_code == 200:
                    break
            assert time.monotonic() < deadline


def test_every_answer_says_what_may_be_made_of_it(anonymous, member):
    for path in ("/me", "/healthz", "/openapi.json", "/nothing"):
        headers = member.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "content-security-policy" not in anonymous.get("/docs").headers
    assert anonymous.get("/docs").headers["x-frame-options"] == "DENY"
