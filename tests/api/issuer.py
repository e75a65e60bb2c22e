"""An identity provider for the tests: a real HTTP server with real keys."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "sonodose"
CLIENT = "sonodose-viewer"


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class MockIssuer:
    """Signs what it is asked to, gives out its public keys and counts how often they are asked for.

    `person` is who signs in at its page; `codes` are the sign-ins under way. While `moved` names an
    address, keys and tokens are redirected there.
    """

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"k1": rsa_key()}
        self.person: dict[str, Any] = {"sub": "u-1", "name": "Dr. Ada Example"}
        self.codes: dict[str, dict[str, str]] = {}
        self.key_fetches = 0
        self.down = False
        self.moved = ""
        self.url = ""

    def token(
        self,
        *,
        kid: str = "k1",
        algorithm: str = "RS256",
        key: Any = None,
        drop: tuple[str, ...] = (),
        **changes: Any,
    ) -> str:
        """A token of Dr. Ada Example, good for five minutes; `changes` are claims."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "u-1",
            "name": "Dr. Ada Example",
            "iat": now,
            "exp": now + 300,
            **changes,
        }
        for name in drop:
            claims.pop(name)
        signer = self.keys.get(kid, self.keys["k1"]) if key is None else key
        return jwt.encode(claims, signer, algorithm=algorithm, headers={"kid": kid})

    def public_pem(self, kid: str = "k1") -> bytes:
        found: bytes = (
            self.keys[kid]
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return found

    def jwks(self) -> dict[str, Any]:
        listed = []
        for kid, key in self.keys.items():
            is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
            kind = jwt.algorithms.ECAlgorithm if is_ec else jwt.algorithms.RSAAlgorithm
            listed.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
        return {"keys": listed}

    def redeem(self, form: dict[str, list[str]]) -> dict[str, Any] | None:
        """The tokens for a code, once, if the verifier fits its challenge (RFC 7636 4.6)."""
        begun = self.codes.pop(form.get("code", [""])[0], None)
        verifier = form.get("code_verifier", [""])[0].encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=")
        if begun is None or begun["code_challenge"] != challenge.decode():
            return None
        if begun["redirect_uri"] != form["redirect_uri"][0]:
            return None
        told = {**self.person, "nonce": begun["nonce"]}
        return {
            "id_token": self.token(**{**told, "aud": CLIENT}),
            "access_token": self.token(**told),
        }


@contextmanager
def mock_issuer() -> Iterator[MockIssuer]:
    """A provider on a free port of this machine."""
    issuer = MockIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if issuer.down:
                self._answer(503, {})
            elif issuer.moved and asked.path == "/keys":
                self._redirect(307, issuer.moved)
            elif asked.path == "/.well-known/openid-configuration":
                self._answer(
                    200,
                    {
                        "issuer": issuer.url,
                        "jwks_uri": f"{issuer.url}/keys",
                        "authorization_endpoint": f"{issuer.url}/authorize",
                        "token_endpoint": f"{issuer.url}/token",
                        "end_session_endpoint": f"{issuer.url}/bye",
                    },
                )
            elif asked.path == "/keys":
                issuer.key_fetches += 1
                self._answer(200, issuer.jwks())
            elif asked.path == "/authorize":
                query = {name: values[0] for name, values in parse_qs(asked.query).items()}
                code = f"code-{len(issuer.codes) + 1}"
                issuer.codes[code] = query
                self._redirect(303, f"{query['redirect_uri']}?code={code}&state={query['state']}")
            else:
                self._answer(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if issuer.moved:
                self._redirect(307, issuer.moved)
                return
            tokens = issuer.redeem(parse_qs(body)) if self.path == "/token" else None
            self._answer(400 if tokens is None else 200, tokens or {"error": "invalid_grant"})

        def _redirect(self, status: int, address: str) -> None:
            self.send_response(status)
            self.send_header("Location", address)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps the tests quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
