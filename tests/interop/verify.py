"""Judges, with PyJWT, joserfc or jwcrypto, the tokens that somebody else made.

Standard input: one JSON object per line, `{ library, token, alg, issuer, audience }`, perhaps `typ` and `wantsClaims`, and
either `jwks` (a key set) or `secret` (base64url) with its `kid`. Standard output: a line for each, `{ ok: true, claims }`,
`{ ok: false, error }`, or `{ skipped }` where the library does not know the algorithm.
"""

import json
import sys

import jwt

from libraries import LIBRARIES


def judge(library, token, alg, issuer, audience, typ=None, wantsClaims=False, kid=None, jwks=None, secret=None):
    library = next(known for known in LIBRARIES if known.name == library)
    if alg not in library.algorithms:
        return {"skipped": f"{library.name} does not know it"}
    keys = jwks or {"keys": [{"kty": "oct", "k": secret, "alg": alg, "kid": kid}]}
    try:
        claims = library.verify(token, alg, keys, issuer, audience)
        # None of them can be told to compare it.
        if typ is not None and jwt.get_unverified_header(token).get("typ") != typ:
            raise ValueError("another typ")
        return {"ok": True, "claims": claims if wantsClaims else None}
    except Exception as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(judge(**json.loads(line))), flush=True)
