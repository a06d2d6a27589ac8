"""What may be an identity provider's address."""

from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_issuer(issuer: str) -> str:
    """The issuer as it is. ValueError for one that is no https address (http: this machine only)."""
    parts = urlsplit(issuer)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError("an issuer is an https:// address")
    if not parts.hostname or parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("an issuer is an https:// address without user, query and fragment")
    return issuer
