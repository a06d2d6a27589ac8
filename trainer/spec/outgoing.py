"""Calls to addresses outside: to where they may go, and signed, so that the other side knows whose they are.

A run's http verifiers call through it, and the API's webhooks (which are signed in their own way, store.webhooks).

A host's name is resolved here, once for a connection; every address that it has must be a public one, or of a network
that the operator allows, and the connection is made to the very address that was checked. So a name that is changed
between the check and the call (DNS rebinding) leads nowhere else. What the operator has written out himself, an IP
address or `localhost`, needs no further leave; the addresses at which clouds hand out credentials need it always.
Redirects are not followed.

A signature is `Asym-Signature: t=UNIX_SECONDS,v1=HEX`, HEX being the HMAC-SHA-256 of `UNIX_SECONDS.BODY` under
ASYM_OUTGOING_SECRET. The other side computes the same, and refuses what is older than some minutes.
"""

import hashlib
import hmac
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import anyio
import anyio.to_thread
import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""(host, port) -> its addresses. OSError when it has none."""

SIGNATURE_HEADER = "Asym-Signature"

_METADATA: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "192.0.0.192/32")
)
"""Link-local ones, among them those of EC2, GCE, Azure and OpenStack, and what Alibaba and Oracle have besides."""
_NAT64 = IPv6Network("64:ff9b::/96")
_NAMES_OF_HERE = frozenset({"localhost"})


class AddressRefusedError(httpx.ConnectError):
    """The operator does not allow calls to where this leads."""


class Doorman:
    """Says to which address a call to a host is made, or that it is not.

    allowed: networks beyond the public ones. operators: whether the URLs are the operator's own, who may then name
    addresses of any network (but for the metadata ones) by writing them out.
    """

    def __init__(
        self, allowed: Sequence[Network] = (), *, operators: bool = False, resolve: Resolve | None = None
    ) -> None:
        self._allowed = tuple(allowed)
        self._operators = operators
        self._resolve = resolve or _resolve

    def checked(self, host: str, port: int) -> Address:
        """An address of the host to connect to. AddressRefusedError unless all that it has are allowed."""
        literal = _literal(host)
        written_out = self._operators and (literal is not None or host.lower() in _NAMES_OF_HERE)
        try:
            found = [literal] if literal is not None else [ip_address(each) for each in self._resolve(host, port)]
        except (OSError, ValueError) as error:
            raise httpx.ConnectError("the host's name cannot be resolved") from error
        if not found:
            raise httpx.ConnectError("the host has no address")
        for address in found:
            if not self._may_be_called(address, written_out=written_out):
                raise AddressRefusedError(
                    "the host has an address that may not be called: one that is private, of this machine, or of a "
                    "cloud's metadata (ASYM_OUTGOING_NETWORKS allows networks)"
                )
        return found[0]

    def _may_be_called(self, address: Address, *, written_out: bool) -> bool:
        address = _meant(address)
        if any(address in network for network in self._allowed):
            return True
        if any(address in network for network in _METADATA) or address.is_multicast or address.is_unspecified:
            return False
        return written_out or address.is_global


class Outgoing(httpx.BaseTransport):
    """A transport for httpx.Client that connects to checked addresses only. Arguments: `Doorman`'s."""

    def __init__(
        self, allowed: Sequence[Network] = (), *, operators: bool = False, resolve: Resolve | None = None
    ) -> None:
        self._doorman = Doorman(allowed, operators=operators, resolve=resolve)
        self._inner = httpx.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        address = self._doorman.checked(request.url.host, _port(request.url))
        return self._inner.handle_request(_pinned(request, address, request.stream))

    def close(self) -> None:
        self._inner.close()


class AsyncOutgoing(httpx.AsyncBaseTransport):
    """The same for httpx.AsyncClient. Names are resolved in threads, which `lookups` may bound."""

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        *,
        operators: bool = False,
        resolve: Resolve | None = None,
        lookups: anyio.CapacityLimiter | None = None,
    ) -> None:
        self._doorman = Doorman(allowed, operators=operators, resolve=resolve)
        self._lookups = lookups
        # No connection is used twice: two names may lead to one address, and a certificate was checked for one of them.
        self._inner = httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # A look-up that nobody waits for any more is left behind: the system's resolver cannot be told to stop.
        address = await anyio.to_thread.run_sync(
            self._doorman.checked,
            request.url.host,
            _port(request.url),
            abandon_on_cancel=True,
            limiter=self._lookups,
        )
        return await self._inner.handle_async_request(_pinned(request, address, request.stream))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _pinned(
    request: httpx.Request, address: Address, stream: httpx.SyncByteStream | httpx.AsyncByteStream
) -> httpx.Request:
    """The request, to this address. The name stays where it matters: in the Host header, which is set already, and in
    the certificate's check."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def sign(body: bytes, secret: str, now: float | None = None) -> str:
    """The value of `Asym-Signature` for this body. now: Unix seconds."""
    seconds = int(time.time() if now is None else now)
    return f"t={seconds},v1={_digest(seconds, body, secret)}"


def is_signed(body: bytes, signature: str, secret: str, *, seconds: float = 300.0, now: float | None = None) -> bool:
    """What the other side does with the header: whether it is of this body, by this secret, and that young."""
    fields = dict(part.split("=", 1) for part in signature.split(",") if "=" in part)
    moment = fields.get("t", "")
    if not moment.isascii() or not moment.isdigit() or len(moment) > 12:
        return False
    fresh = abs((time.time() if now is None else now) - int(moment)) <= seconds
    return hmac.compare_digest(fields.get("v1", "").encode(), _digest(int(moment), body, secret).encode()) and fresh


def _digest(seconds: int, body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        teredo = address.teredo
        return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)
    return address


def _resolve(host: str, port: int) -> list[str]:
    # A zone (fe80::1%eth0) says by which interface, not where.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]
