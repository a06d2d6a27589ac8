"""Whether an ID token is the identity provider's own word, meant for us, and still good (OpenID Connect Core 3.1.3.7).

The provider is the operator's choice (ASYM_OIDC_ISSUER); a token never says where its keys are to be fetched from.
"""

import time
from threading import Lock

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from store.oidc_issuer import check_issuer

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key pair only: neither `none` nor one that the client secret could make."""
LEEWAY = 60
"""Seconds by which two clocks may differ."""
KEYS_SECONDS = 3600.0
"""How long the provider's keys are kept."""
AGAIN_SECONDS = 30.0
"""At the soonest, keys are fetched anew for a token whose key is not among them: providers rotate theirs."""
TIMEOUT_SECONDS = 10.0
MAX_BYTES = 2**20


class ProviderAwayError(Exception):
    """The identity provider does not answer, or not as one."""


class NotVouchedForError(Exception):
    """The token proves nothing; the message says why."""


class IdTokens:
    """The tokens of one issuer for one client. Fetches the issuer's keys when first asked, and keeps them."""

    def __init__(self, issuer: str, client_id: str, claim: str) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._claim = claim
        self._keys: KeySet | None = None
        self._fetched = float("-inf")
        self._lock = Lock()

    def login_of(self, token: str) -> str:
        """The name under which the token's bearer signs in.

        NotVouchedForError; ProviderAwayError when the provider's keys cannot be had.
        """
        try:
            claims = self._decoded(token).claims
            options = jwt.JWTClaimsRegistry(
                leeway=LEEWAY,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
            )
            options.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise NotVouchedForError(f"the ID token is not valid: {error}") from error
        authorized = claims.get("azp", self._client_id)
        if authorized != self._client_id:
            raise NotVouchedForError("the ID token was issued to another client")
        login = claims.get(self._claim)
        if not isinstance(login, str) or not login.strip():
            raise NotVouchedForError(f"the ID token has no claim {self._claim!r}")
        # Providers let people enter any address; only a verified one is theirs. Those that never say so verify all.
        if self._claim == "email" and claims.get("email_verified", True) not in (True, "true"):
            raise NotVouchedForError("the identity provider has not verified this mail address")
        return login

    def _decoded(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._provider_keys(KEYS_SECONDS), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            before = self._fetched
            fresh = self._provider_keys(AGAIN_SECONDS)
            if self._fetched == before:
                raise
            return jwt.decode(token, fresh, algorithms=ALGORITHMS)

    def _provider_keys(self, most_age: float) -> KeySet:
        with self._lock:
            if self._keys is None or time.monotonic() - self._fetched > most_age:
                self._keys = self._fetch()
                self._fetched = time.monotonic()
            return self._keys

    def _fetch(self) -> KeySet:
        try:
            with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as http:
                found = _document(http, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if found.get("issuer") != self._issuer:
                    raise ProviderAwayError(f"{self._issuer} describes itself as {found.get('issuer')!r}")
                return KeySet.import_key_set(_document(http, check_issuer(str(found.get("jwks_uri")))))  # type: ignore[arg-type]
        except (httpx.HTTPError, JoseError, ValueError, TypeError) as error:
            raise ProviderAwayError(f"the identity provider {self._issuer}: {error}") from error


def _document(http: httpx.Client, url: str) -> dict[str, object]:
    with http.stream("GET", url) as answer:
        answer.raise_for_status()
        if answer.is_redirect:
            raise ValueError(f"{url} redirects")
        body = b""
        for part in answer.iter_bytes():
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"{url} is larger than {MAX_BYTES} bytes")
    found = httpx.Response(200, content=body).json()
    if not isinstance(found, dict):
        raise ValueError(f"{url} is no JSON object")
    return found
