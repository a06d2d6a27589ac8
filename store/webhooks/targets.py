"""Which addresses a webhook may have: those of hosts that the operator names in ASYM_WEBHOOK_HOSTS.

That is the first of two checks, on names, made when a webhook is set up and again before each call. The second, on the
addresses that a name leads to, is the connection's own (trainer.spec.outgoing).
"""

import re
from collections.abc import Sequence
from ipaddress import ip_address

import httpx

EVERY_HOST = "*"
MAX_URL = 2000
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


class TargetRefused(ValueError):  # noqa: N818 - it is what is the case
    """Why a webhook may not have this address, in words for whoever set it up."""


def parse_hosts(text: str) -> list[str]:
    """The entries of ASYM_WEBHOOK_HOSTS: `hooks.slack.com,example.org,10.0.0.7` or `*`. ValueError for what is none."""
    found = []
    for piece in text.split(","):
        if not (host := piece.strip().lower().strip("[]").removesuffix(".")):
            continue
        if host != EVERY_HOST and not _is_address(host) and not _NAME.fullmatch(host):
            raise ValueError(f"{piece.strip()!r} is no host: write example.com (with all below it), an IP address or *")
        found.append(host)
    return found


def checked_url(url: str, hosts: Sequence[str]) -> str:
    """The address, written as it will be called. TargetRefused for one that is not allowed.

    Plain http goes only to hosts that are named; and an IP address is a host that has to be named, too.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise TargetRefused("is no address like https://example.com/path") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise TargetRefused("is no address like https://example.com/path")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise TargetRefused(f"has no port {parsed.port} to go to")
    if parsed.userinfo or parsed.fragment:
        raise TargetRefused("must have neither user:password@ nor a #fragment; deliveries are signed")
    if not hosts:
        raise TargetRefused("webhooks go nowhere until the operator names hosts in ASYM_WEBHOOK_HOSTS")
    host = parsed.raw_host.decode("ascii").lower().strip("[]").removesuffix(".")
    if not _is_address(host) and not _NAME.fullmatch(host):
        raise TargetRefused("has no host that there could be")
    named = host in hosts or any(host.endswith(f".{each}") for each in hosts if not _is_address(each))
    if not named and (EVERY_HOST not in hosts or _is_address(host)):
        raise TargetRefused(f"{host} is not among the hosts that the operator allows (ASYM_WEBHOOK_HOSTS)")
    if parsed.scheme == "http" and not named:
        raise TargetRefused("must be https, unless the operator names this very host in ASYM_WEBHOOK_HOSTS")
    return str(parsed)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
