"""What `schemathesis` is told beside the OpenAPI document.

With `CLIENT_KEY` (a private key in PEM) and `ISSUER`, each request that goes out has an assertion of its own, made by PyJWT: of
the client `first`, or, every fourth that is no batch, of `hasty`, which asks more often than it may. Members have values that the
policy allows about half of the time: at random none would. What is about the ring's keys is signed itself (`REQUESTS.md`), made by
PyJWT too. Without `CLIENT_KEY` nobody says who asks.

What was answered, by operation and status, goes to the file `SEEN` as JSON when all is over.
"""

import atexit
import base64
import hashlib
import itertools
import json
import os
import re
import time
import uuid
from collections import Counter

import jwt
import requests
import schemathesis
from cryptography.hazmat.primitives.serialization import load_pem_private_key

KEY = os.environ.get("CLIENT_KEY")
ISSUER = os.environ["ISSUER"]
LIFETIME = 60

# As `run` writes them into the policy.
ALLOWED = {
    "profile": ["access"],
    "sub": ["first", "user:ada"],
    "aud": ["example", ["example"]],
    "scope": ["", "example:read"],
    "ttl": [60, 300],
    "alg": ["ES256", "RS256"],
    "key_bits": [2048],
    "claims": [{}, {"tenant": "acme"}],
}

seen = Counter()


class Signed(requests.auth.AuthBase):
    """`private_key_jwt` (RFC 7523 as updated by RFC 10070), anew for each request, or the request itself."""

    turns = itertools.cycle(range(4))

    def __init__(self, pem):
        self.key = load_pem_private_key(pem, password=None)

    def __call__(self, request):
        turn, now = next(self.turns), int(time.time())
        client = "hasty" if turn == 3 and request.path_url == "/v1/tokens" else "first"
        claims = {
            "iss": client, "sub": client, "aud": ISSUER, "iat": now, "exp": now + LIFETIME, "jti": str(uuid.uuid4()),
        }
        typ = "client-authentication+jwt"
        if request.path_url.startswith("/v1/keys"):
            typ = "request+jwt"
            body = request.body or b""
            digest = hashlib.sha256(body.encode() if isinstance(body, str) else body).digest()
            claims |= {
                "htm": request.method, "htu": request.url,
                "body_sha256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            }
        token = jwt.encode(claims, self.key, algorithm="ES256", headers={"typ": typ})
        request.headers["Authorization"] = f"Bearer {token}"
        key = request.headers.get("Idempotency-Key", "")
        # The same few would come again and again, and nothing else of their requests would be looked at.
        if turn != 2 and isinstance(key, str) and re.fullmatch("[!-~]{1,200}", key):
            request.headers["Idempotency-Key"] = f"{key}{uuid.uuid4()}"
        return request


if KEY is not None:
    with open(KEY, "rb") as pem:
        schemathesis.auth.set_from_requests(Signed(pem.read()))

    @schemathesis.hook
    def before_load_schema(context, raw_schema):
        properties = raw_schema["components"]["schemas"]["Request"]["properties"]
        for name, values in ALLOWED.items():
            properties[name] = {"anyOf": [{"enum": values}, properties[name]]}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """What the document cannot say, or the check does not know."""
    kind = type(failure).__name__
    if kind == "RejectedPositiveData" and response.status_code == 400:
        # Credentials are no part of a schema; those that are malformed make a bad request (RFC 6750 §3.1).
        return "`Authorization`" not in response.text
    if kind == "AcceptedNegativeData" and case.path == "/v1/tokens:batch":
        # Each request of a batch is answered for itself.
        return all(result.get("error") != "invalid_request" for result in response.json()["results"])
    return True


@schemathesis.hook
def after_call(context, case, response):
    seen[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def tell():
    with open(os.environ["SEEN"], "w") as file:
        json.dump(seen, file)
