"""An OpenID Connect provider on this machine that lets one person in without asking: discovery, keys, the code flow."""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT_ID, CLIENT_SECRET = "asym-dashboard", "of-the-dashboard"


class IdentityProvider:
    """Serves at `issuer` from when it is made until `close`. Whoever signs in is `person`."""

    def __init__(self):
        self.person = {"sub": "248289761001", "email": "Ada@Example.com", "email_verified": True}
        self.key_requests = 0
        self._nonces = {}
        self.rotate()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider._get(self)

            def do_POST(self):
                provider._post(self)

            def log_message(self, *parts):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rotate(self):
        """From here on it signs with another key."""
        self._key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"})

    def token(self, key=None, header=None, **changed):
        """An ID token; claims that are changed to None are left out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, **self.person, **changed}
        claims = {name: value for name, value in claims.items() if value is not None}
        key = key or self._key
        return jwt.encode(header or {"alg": "RS256", "kid": key.kid}, claims, key)

    def _get(self, request):
        url = urlsplit(request.path)
        if url.path == "/.well-known/openid-configuration":
            names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            _answer(
                request,
                {
                    "issuer": self.issuer,
                    **{name: f"{self.issuer}/{path}" for name, path in names.items()},
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                },
            )
        elif url.path == "/keys":
            self.key_requests += 1
            _answer(request, KeySet([self._key]).as_dict(private=False))
        elif url.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            code = secrets.token_hex(8)
            self._nonces[code] = asked.get("nonce")
            back = urlencode({"code": code, "state": asked["state"]})
            request.send_response(302)
            request.send_header("Location", f"{asked['redirect_uri']}?{back}")
            request.end_headers()
        else:
            request.send_error(404)

    def _post(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        if sent.get("code") not in self._nonces:
            request.send_error(400)
            return
        id_token = self.token(nonce=self._nonces.pop(sent["code"]))
        _answer(request, {"access_token": "of-no-use", "token_type": "Bearer", "expires_in": 300, "id_token": id_token})


def _answer(request, document):
    body = json.dumps(document).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
