"""What an operator allows beyond the verifiers of this package. A spec can only name these things, never bring them."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

SANDBOXES = ("bubblewrap",)
"""What user code of `reward.kind: python` may be confined by."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def parse_http_verifiers(pairs: list[str]) -> dict[str, str]:
    """`NAME=URL` pairs as name -> URL. ValueError for anything else, without the URL, which may hold a password."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, url = pair.strip().partition("=")
        if not separator or not _NAME.fullmatch(name):
            shown = "a part of it" if "/" in name or not name else repr(name[:60])
            raise ValueError(f"{shown} is no NAME=URL of an http verifier")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or any(character.isspace() for character in url):
            raise ValueError(f"the http verifier {name} has no address like https://host/path")
        if name in found:
            raise ValueError(f"the http verifier {name} is given twice")
        found[name] = url
    return found


def split_http_verifiers(text: str) -> list[str]:
    """The pairs of ASYM_HTTP_VERIFIERS: `judge=https://host/score,other=http://...`."""
    return [part for part in (piece.strip() for piece in text.split(",")) if part]


def parse_networks(text: str) -> list[IPv4Network | IPv6Network]:
    """The networks of ASYM_OUTGOING_NETWORKS: `10.0.0.0/8,192.168.7.4`. ValueError for what is none."""
    return [ip_network(part) for piece in text.split(",") if (part := piece.strip())]
