"""`http:NAME` against a real server that fails in all the ways servers do. No test waits: the backoff is injected."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trainer.rewards import Permits, UnusableVerifierError, VerifierPool, VerifierUnavailableError, VerifyItem
from trainer.rewards.http_endpoint import MAX_REPLY_BYTES, HttpEndpoint


@dataclass
class Judge:
    """The server: answers are taken from `script`, then it scores 1 where the response is the answer, else 0.25."""

    script: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    items: list[list[dict[str, object]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.items.append(body["items"])
        self.headers.append(dict(handler.headers))
        if self.script:
            self.script.pop(0)(handler)
        else:
            rewards = [1.0 if item["response"] == item["answer"] else 0.25 for item in body["items"]]
            reply(json.dumps({"rewards": rewards}).encode())(handler)


def reply(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def judge() -> Iterator[Judge]:
    state = Judge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/score"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(judge: Judge):
    """ask(requests, ...) -> (outcomes, the waits before retries)."""

    def send(count: int = 1, batch_size: int = 64, retries: int = 3, seconds: float = 30.0):
        waits: list[float] = []
        endpoint = HttpEndpoint("judge", judge.url, batch_size=batch_size, retries=retries, wait=waits.append)
        request = {"op": "score", "kind": "http:judge", "prompt": "q", "answer": "5", "metadata": None, "options": {}}
        try:
            return endpoint.run([{**request, "response": str(n)} for n in range(count)], seconds), waits
        finally:
            endpoint.close()

    return send


def test_what_is_sent_and_what_comes_back(judge: Judge):
    items = [
        VerifyItem("5", "5", prompt="2+3?", metadata={"level": 1}),
        VerifyItem("\ud800", "5"),
        VerifyItem("x" * 200_000, "5"),
    ]
    with VerifierPool("http:judge", permits=Permits(http={"judge": judge.url})) as pool:
        pool.require(["http:judge"])
        verdicts = pool.score(items)
    assert [(verdict.reward, verdict.error) for verdict in verdicts] == [(1.0, None), (0.25, None), (0.0, "too_long")]
    assert judge.items == [
        [
            {"prompt": "2+3?", "response": "5", "answer": "5", "metadata": {"level": 1}},
            {"prompt": "", "response": "\ud800", "answer": "5", "metadata": None},
        ]
    ]


def test_batches_keep_their_order(judge: Judge, ask):
    outcomes, _ = ask(10, batch_size=4)
    assert sorted(len(batch) for batch in judge.items) == [2, 4, 4]
    assert [outcome.reward for outcome in outcomes] == [0.25] * 5 + [1.0] + [0.25] * 4


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again_with_growing_waits(judge: Judge, ask, status):
    judge.script = [reply(b"", status), hang_up, reply(b"", status)]
    outcomes, waits = ask()
    assert (outcomes[0].reward, outcomes[0].error) == (0.25, None)
    assert waits == [0.5, 1.0, 2.0]


def test_an_endpoint_that_stays_away_is_the_infrastructures_failure(judge: Judge, ask):
    judge.script = [reply(b"", 503)] * 3
    with pytest.raises(VerifierUnavailableError, match="the http verifier judge gave status 503, 3 times"):
        ask(retries=2)
    assert len(judge.items) == 3
    judge.url = "http://127.0.0.1:9/score"  # nobody listens at the discard port
    with pytest.raises(VerifierUnavailableError, match="ConnectError, 4 times"):
        ask()


def test_a_request_that_takes_too_long_is_tried_again(judge: Judge, ask):
    held = threading.Event()
    judge.script = [lambda handler: held.wait(60) and None]
    outcomes, waits = ask(seconds=0.5)
    held.set()
    assert (outcomes[0].reward, waits) == (0.25, [0.5])


def test_a_reply_in_drips_is_cut_off_by_the_whole_time(judge: Judge):
    # The clock jumps past the limit while the reply comes.
    times = iter([0.0, 0.0, 100.0, *[101.0] * 20])
    endpoint = HttpEndpoint("judge", judge.url, batch_size=1, retries=0, clock=lambda: next(times))
    request = {"op": "score", "prompt": "", "response": "", "answer": "", "metadata": None}
    with pytest.raises(VerifierUnavailableError, match="no whole reply within 5 s"):
        endpoint.run([request], 5.0)
    endpoint.close()


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404])
def test_redirects_are_not_followed_and_refusals_not_repeated(judge: Judge, ask, status):
    judge.script = [reply(b"", status, Location=judge.url)]
    with pytest.raises(VerifierUnavailableError, match=f"status {status}"):
        ask()
    assert len(judge.items) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1.0",
        b"{}",
        b'{"rewards": 1.0}',
        b'{"rewards": []}',
        b'{"rewards": [1.0]}',
        b'{"rewards": [1, 1, 1]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"rewards": [' + b"9" * 5000 + b", 1]}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_list_of_rewards_is_not_read_as_zeros(judge: Judge, ask, body):
    judge.script = [reply(body)]
    with pytest.raises(VerifierUnavailableError, match="the http verifier judge gave a reply that is not"):
        ask(2)


def test_a_reply_without_end_is_not_read_to_its_end(judge: Judge, ask):
    judge.script = [reply(b" " * (MAX_REPLY_BYTES + 1))]
    with pytest.raises(VerifierUnavailableError, match="more than 1,048,576 bytes"):
        ask()


def test_each_bad_reward_is_its_items_own(judge: Judge):
    bad = ["NaN", "Infinity", "-Infinity", "2.0", "-0.1", "null", "true", '"1.0"', "[1.0]", "{}", "1e999"]
    judge.script = [reply(f'{{"rewards": [{", ".join(bad)}, 1, 0, 0.5]}}'.encode())]
    with VerifierPool("http:judge", permits=Permits(http={"judge": judge.url})) as pool:
        verdicts = pool.score([VerifyItem("a", "a")] * (len(bad) + 3))
        assert [verdict.error for verdict in verdicts] == ["bad_reply"] * len(bad) + [None] * 3
        assert [verdict.reward for verdict in verdicts] == [0.0] * len(bad) + [1.0, 0.0, 0.5]
        assert pool.counts == {"bad_reply": len(bad)}


def test_neither_proxies_nor_addresses_leak(judge: Judge, ask, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert ask()[0][0].error is None
    judge.script = [reply(b"", 404)]
    judge.url = judge.url.replace("http://", "http://user:secret@")
    with pytest.raises(VerifierUnavailableError) as raised:
        ask()
    assert "secret" not in str(raised.value)


def test_only_the_operators_names_can_be_named(judge: Judge):
    permits = Permits(http={"judge": judge.url, "other": judge.url})
    with pytest.raises(UnusableVerifierError, match=r"no http verifier 'mine' .* there are: judge, other"):
        VerifierPool("http:mine", permits=permits)
    with pytest.raises(UnusableVerifierError, match="there are: none"):
        VerifierPool("http:judge")
    with pytest.raises(ValueError, match="unknown verifier"):
        VerifierPool("http:http://judge/score", permits=permits)
