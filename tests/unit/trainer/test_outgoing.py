"""Where calls may go: decided on resolved addresses, and held for the connection itself."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network

import httpx
import pytest

from trainer.rewards import VerifierUnavailableError
from trainer.rewards.http_endpoint import HttpEndpoint
from trainer.spec.outgoing import AddressRefusedError, Doorman, Outgoing, is_signed, sign

PUBLIC = "93.184.216.34"
NOT_PUBLIC = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1",  # noqa: S104
    "255.255.255.255", "100.100.100.200", "192.0.0.192", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1",
]  # fmt: skip
METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]


def outgoing(*addresses, allowed=(), operators=False):
    networks = [ip_network(network) for network in allowed]
    return Doorman(networks, operators=operators, resolve=lambda host, port: addresses)


@pytest.mark.parametrize("address", NOT_PUBLIC)
@pytest.mark.parametrize("operators", [False, True])
def test_a_name_must_lead_to_public_addresses(address, operators):
    with pytest.raises(AddressRefusedError):
        outgoing(address, operators=operators).checked("judge.example", 443)
    with pytest.raises(AddressRefusedError):
        outgoing(PUBLIC, address, operators=operators).checked("judge.example", 443)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "fc00::1"])
def test_what_the_operator_allows_may_be_called(address):
    assert outgoing(address, allowed=[address]).checked("judge.example", 443) == ip_address(address)
    with pytest.raises(AddressRefusedError):
        outgoing(address, allowed=["192.0.2.0/24"]).checked("judge.example", 443)


def test_public_addresses_may_be_called():
    assert outgoing(PUBLIC).checked("judge.example", 443) == ip_address(PUBLIC)
    assert str(outgoing("2606:4700::1111").checked("judge.example", 443)) == "2606:4700::1111"
    assert outgoing().checked(PUBLIC, 80) == ip_address(PUBLIC)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]", "::1"])
def test_what_is_written_out_is_meant_only_where_the_operator_writes(host):
    assert outgoing(operators=True).checked(host, 80) == ip_address(host.strip("[]"))
    assert str(outgoing("127.0.0.1", operators=True).checked("localhost", 80)) == "127.0.0.1"
    with pytest.raises(AddressRefusedError):
        outgoing().checked(host, 80)
    with pytest.raises(AddressRefusedError):
        outgoing("127.0.0.1").checked("localhost", 80)


@pytest.mark.parametrize("address", METADATA)
def test_metadata_is_not_meant_by_anybody(address):
    with pytest.raises(AddressRefusedError):
        outgoing(operators=True).checked(address, 80)


def test_a_name_without_addresses_is_no_refusal():
    for resolve in (lambda host, port: [], lambda host, port: (_ for _ in ()).throw(OSError("no such name"))):
        with pytest.raises(httpx.ConnectError) as raised:
            Doorman(resolve=resolve).checked("nobody.example", 80)
        assert not isinstance(raised.value, AddressRefusedError)


class Heard(BaseHTTPRequestHandler):
    seen: list = []  # noqa: RUF012
    redirect_to: str | None = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.headers, body))
        if self.redirect_to is not None:
            self.send_response(307)
            self.send_header("Location", self.redirect_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = json.dumps({"rewards": [1.0] * len(json.loads(body)["items"])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def port():
    Heard.seen.clear()
    Heard.redirect_to = None
    with ThreadingHTTPServer(("127.0.0.1", 0), Heard) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_connection_is_made_to_the_address_that_was_checked(port):
    """A name that changes its address between the check and the connection: it is resolved once, and never again."""
    asked = []

    def changing(host, _):
        asked.append(host)
        assert len(asked) == 1, "a second look-up could tell another address"
        return ["127.0.0.1"]

    transport = Outgoing([ip_network("127.0.0.0/8")], resolve=changing)
    with httpx.Client(transport=transport) as http:
        answer = http.post(f"http://judge.example:{port}/score", json={"items": []})
    assert answer.status_code == 200
    assert Heard.seen[0][0]["Host"] == f"judge.example:{port}", "the other side still hears its own name"


def test_each_redirect_would_be_checked_too(port):
    Heard.redirect_to = f"http://inside.example:{port}/"
    addresses = {"judge.example": ["127.0.0.1"], "inside.example": ["127.0.0.2"]}
    transport = Outgoing([ip_network("127.0.0.1/32")], resolve=lambda host, _: addresses[host])
    with httpx.Client(transport=transport, follow_redirects=True) as http, pytest.raises(AddressRefusedError):
        http.post(f"http://judge.example:{port}/score", json={"items": []})
    assert len(Heard.seen) == 1


def score(url, **more):
    request = {"op": "score", "kind": "http:j", "prompt": "", "response": "", "answer": "", "metadata": None}
    endpoint = HttpEndpoint("j", url, batch_size=1, retries=0, **more)
    try:
        return endpoint.run([request], 5.0)
    finally:
        endpoint.close()


def test_the_verifier_signs_what_it_sends(port):
    score(f"http://127.0.0.1:{port}/", signing_secret="key")
    headers, body = Heard.seen[0]
    assert is_signed(body, headers["Asym-Signature"], "key")
    score(f"http://127.0.0.1:{port}/")
    assert "Asym-Signature" not in Heard.seen[1][0]


def test_the_verifier_follows_no_redirect_and_calls_no_metadata(port):
    Heard.redirect_to = f"http://127.0.0.1:{port}/inside"
    with pytest.raises(VerifierUnavailableError, match="status 307"):
        score(f"http://127.0.0.1:{port}/")
    assert len(Heard.seen) == 1
    with pytest.raises(VerifierUnavailableError, match="not called") as raised:
        score("http://u:canary@169.254.169.254/latest")
    assert "canary" not in str(raised.value)


def test_a_signature_is_of_one_body_one_secret_and_one_time():
    signature = sign(b"body", "key", now=1000.9)
    assert signature.startswith("t=1000,v1=")
    assert is_signed(b"body", signature, "key", now=1200)
    for body, secret, now in [
        (b"bodY", "key", 1000),
        (b"body", "kez", 1000),
        (b"body", "key", 1301),
        (b"body", "key", 1),
    ]:
        assert not is_signed(body, signature, secret, now=now)
    for broken in ("", "t=1000", "v1=ab", "t=x,v1=ab", "t=²,v1=ab", "t=1000,v1=é", "t=" + "9" * 400 + ",v1="):
        assert not is_signed(b"body", broken, "key", now=1000)
