"""Plays three issuers that nobody here wrote, one for each of PyJWT, joserfc and jwcrypto.

Each makes its keys, serves the public ones as it writes them over a loopback socket, and mints, for every algorithm that it
shares with countersign, good tokens and the hostile ones that an attacker, or a careless user of the library, could make.
Standard output: one line of JSON per library, then, when standard input has closed, how often somebody fetched the attacker's
key set. What a library declines to write is written by hand, and signed by the library.
"""

import base64
import datetime
import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from libraries import ALGORITHMS, EC, HMAC, LIBRARIES, RSA, version

AUDIENCE = "https://api.example"
OTHER_AUDIENCE = "https://other.example"
NOW = int(time.time())
HOUR = 3600

documents = {"/attacker.json": {"keys": []}}
attacker_fetches = 0


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), KeyServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_port}"
    for library in LIBRARIES:
        print(json.dumps(Issuer(library, origin).minted()), flush=True)
    sys.stdin.read()
    print(json.dumps({"attackerFetches": attacker_fetches}))
    server.shutdown()


class KeyServer(BaseHTTPRequestHandler):
    def do_GET(self):
        global attacker_fetches
        attacker_fetches += self.path == "/attacker.json"
        document = documents.get(self.path)
        body = json.dumps(document or {}).encode()
        self.send_response(200 if document else 404)
        self.send_header("content-type", "application/jwk-set+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Issuer:
    def __init__(self, library, origin):
        self.library = library
        self.origin = origin
        self.issuer = f"{origin}/{library.name}"
        self.keys = self.make_keys()
        self.attackers = self.make_keys()

    def make_keys(self):
        """By algorithm. Where JWKs have no `alg`, a key serves all that it can do."""
        families, keys = {}, {}
        for alg in self.library.algorithms:
            family = "RSA" if alg in RSA and self.library.one_key_per_family else alg
            if family not in families:
                families[family] = self.library.generate(alg, f"{family}-{uuid.uuid4()}")
            keys[alg] = families[family]
        return keys

    def minted(self):
        public = {key.kid: key for key in self.keys.values() if not key.secret}
        documents[f"/{self.library.name}.json"] = self.library.key_set(public.values())
        return {
            "library": self.library.name,
            "version": version(self.library),
            "jwks": f"{self.origin}/{self.library.name}.json",
            "issuer": self.issuer,
            "audience": AUDIENCE,
            "published": len(public),
            "algorithms": [self.tokens(alg) for alg in self.library.algorithms],
            "skipped": [
                {"alg": alg, "reason": f"{self.library.name} does not know it"}
                for alg in ALGORITHMS if alg not in self.library.algorithms
            ],
        }

    def tokens(self, alg):
        key, attacker = self.keys[alg], self.attackers[alg]
        good = self.encode(key, self.header(alg, key), self.claims())
        hostile = [
            *self.hostile_headers(alg, key, attacker),
            *self.hostile_shapes(alg, key, good),
            *self.hostile_claims(alg, key),
        ]
        return {
            "alg": alg,
            "kid": key.kid,
            "secret": key.secret and base64url(key.secret),
            "token": good,
            "alsoGood": [{"name": name, "token": token} for name, token in self.also_good(alg, key)],
            "hostile": hostile,
        }

    # --- ways to write a token

    def claims(self, **changes):
        claims = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "user-1", "client_id": "client-1", "jti": str(uuid.uuid4()),
            "scope": "orders:read", "iat": NOW, "exp": NOW + HOUR, **changes,
        }
        return {name: value for name, value in claims.items() if value is not ABSENT}

    def header(self, alg, key, **changes):
        header = {"alg": alg, "kid": key.kid, "typ": "at+jwt", **changes}
        return {name: value for name, value in header.items() if value is not ABSENT}

    def encode(self, key, header, claims):
        """By the front door where it is open: each library declines some claims, header members and nestings."""
        try:
            return self.library.encode(key, header, claims)
        except Exception:
            return self.by_hand(key, header.get("alg"), json.dumps(header), json.dumps(claims))

    def by_hand(self, key, alg, header, payload):
        """With exactly these texts or octets, signed by the library."""
        signed = f"{base64url(header)}.{base64url(payload)}"
        return f"{signed}.{base64url(self.library.sign(key, alg, signed.encode()))}"

    # --- good tokens

    def also_good(self, alg, key):
        def claims(**changes):
            return self.encode(key, self.header(alg, key), self.claims(**changes))

        def header(**changes):
            return self.encode(key, self.header(alg, key, **changes), self.claims())

        def texts(head, payload):
            return self.by_hand(key, alg, head, payload)

        head, payload = json.dumps(self.header(alg, key)), json.dumps(self.claims())
        escaped = "".join(f"\\u{ord(character):04x}" for character in alg)
        return [
            ("no kid", header(kid=ABSENT)),
            ("typ absent", header(typ=ABSENT)),
            ("typ JWT", header(typ="JWT")),
            ("typ in full and in another letter case", header(typ="application/AT+JWT")),
            ("header members that nobody knows", header(**{"x-tenant": {"a": [1, None]}, "x5t#S256": "AAAA", "cty": "x"})),
            ("aud is an array", claims(aud=[OTHER_AUDIENCE, AUDIENCE])),
            ("aud is an array with one member twice", claims(aud=[AUDIENCE, AUDIENCE])),
            ("fractional dates", claims(exp=NOW + HOUR + 0.5, iat=NOW - 0.25, nbf=NOW - 0.125)),
            ("exp with an exponent", texts(head, payload.replace(f'"exp": {NOW + HOUR}', '"exp": 4.0e9'))),
            ("not yet valid within the leeway", claims(nbf=NOW + 15)),
            ("text beyond ASCII", claims(sub="Ἀθηνᾶ 🦉", name="\u0000\u2028 \\ \" é")),
            ("claims of every type", claims(roles=["a", "b"], nested={"a": {"b": [True, None, 1.5]}}, big=10**30)),
            ("JSON with white space", texts(json.dumps(json.loads(head), indent=1), json.dumps(json.loads(payload), indent=2))),
            ("alg written with escapes", texts(head.replace(f'"alg": "{alg}"', f'"alg": "{escaped}"'), payload)),
        ]

    # --- hostile: must fail before the claims are looked at

    def hostile_headers(self, alg, key, attacker):
        found, library, claims = [], self.library, self.claims()

        def add(name, token, unknown=False):
            if token is not None:
                found.append({"name": name, "stage": "token", "keyUnknown": unknown, "token": token})

        def sign(name, by=key, unknown=False, **changes):
            add(name, self.encode(by, self.header(alg, key, **changes), claims), unknown)

        def sign_text(name, text):
            add(name, self.by_hand(key, alg, text, json.dumps(claims)))

        unsigned = library.unsigned(self.header(alg, key), claims)
        add("alg none, no signature", unsigned)
        add("alg none, signed all the same", self.by_hand(key, alg, json.dumps(self.header("none", key)), json.dumps(claims)))
        for none in ["None", "NONE", "nOnE"]:
            add(f"alg {none}", f"{base64url(json.dumps(self.header(none, key)))}.{unsigned.split('.')[1]}.")
        for name, value in [("lower case", alg.lower()), ("null", None), ("a number", 256), ("an array", [alg]), ("empty", "")]:
            if value != alg:
                sign_text(f"alg is {name}", json.dumps(self.header(value, key)))
        sign_text("alg absent", json.dumps(self.header(ABSENT, key)))

        sign("another key under this kid", by=attacker)
        sign("another key, no kid", by=attacker, kid=ABSENT)
        sign("another key under its own kid", by=attacker, kid=attacker.kid, unknown=True)
        sign("another key, embedded as jwk", by=attacker, jwk=attacker.jwk)
        sign("another key, embedded as jwk, no kid", by=attacker, jwk=attacker.jwk, kid=ABSENT)
        sign("another key, at a jku", by=attacker, jku=f"{self.origin}/attacker.json")
        sign("another key, at an x5u", by=attacker, x5u=f"{self.origin}/attacker.json")
        chain = certificate(attacker)
        if chain:
            sign("another key, in an x5c", by=attacker, x5c=chain)
        for name, kid in [
            ("a URL", f"{self.origin}/attacker.json"), ("a path", "../../../../../../dev/null"), ("SQL", "x' UNION SELECT 'k'--"),
            ("a command", "| touch x"), ("in another letter case", key.kid.swapcase()), ("empty", ""),
            ("with a NUL behind", f"{key.kid}\0"), ("in other characters", "ключ"),
        ]:
            sign(f"kid is {name}", kid=kid, unknown=True)
        for name, kid in [("a number", 7), ("null", None), ("an array", [key.kid]), ("an object", {"kid": key.kid})]:
            sign_text(f"kid is {name}", json.dumps(self.header(alg, key, kid=kid)))
        sign_text("kid of 300 characters", json.dumps(self.header(alg, key, kid="k" * 300)))

        sign("crit unknown", crit=["x-must"], **{"x-must": True})
        sign("crit empty", crit=[])
        sign("crit lists an absent member", crit=["x-must"])
        sign("crit lists exp", crit=["exp"], exp=NOW + HOUR)
        sign_text("crit is text", json.dumps(self.header(alg, key, crit="exp")))
        add("b64 false", library.unencoded(key, self.header(alg, key), b"unencoded"))
        sign_text("b64 false, payload encoded", json.dumps(self.header(alg, key, crit=["b64"], b64=False)))
        sign_text("b64 false without crit", json.dumps(self.header(alg, key, b64=False)))
        sign_text("zip", json.dumps(self.header(alg, key, zip="DEF")))

        head = json.dumps(self.header(alg, key))
        sign_text("alg twice", head.replace("{", '{"alg":"none",', 1))
        sign_text("kid twice, once with an escape", head.replace("{", '{"k\\u0069d":"x",', 1))
        sign_text("typ twice", head.replace("{", '{"typ":"at+jwt",', 1))
        sign_text("header is an array", f"[{head}]")
        sign_text("header with something behind it", f"{head}{{}}")
        sign_text("header with a comment", head.replace("{", "{/**/", 1))
        sign_text("header in single quotes", head.replace('"', "'"))
        sign_text("header in UTF-16", head.encode("utf-16"))
        sign_text("header with a byte order mark", head.encode("utf-8-sig"))
        sign_text("header is not UTF-8", head.encode().replace(b"at+jwt", b"at+jwt\xff"))
        sign_text("header has NaN", head.replace("{", '{"x":NaN,', 1))
        sign_text("header nested deeply", head.replace("{", f'{{"x":{"[" * 400}{"]" * 400},', 1))
        sign_text("header longer than 6 KiB", head.replace("{", f'{{"x":"{"x" * 7000}",', 1))

        self.confusions(add, alg, key, claims)
        return found

    def confusions(self, add, alg, key, claims):
        """The public key, in every form it can be had, as the secret of an HMAC; and a key under its neighbour's algorithm."""
        if not key.secret:
            payload = base64url(json.dumps(claims))
            secrets = {"JWK text": json.dumps(key.jwk).encode(), "public member": public_member(key.jwk)}
            if key.pem:
                der = serialization.load_pem_public_key(key.pem).public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                secrets |= {"PEM": key.pem, "PEM without its last line feed": key.pem.rstrip(), "DER": der}
            for hmac in HMAC:
                for form, secret in secrets.items():
                    signed = f"{base64url(json.dumps(self.header(hmac, key)))}.{payload}"
                    signature = self.library.hmac(secret, hmac, signed.encode())
                    add(f"{hmac} keyed with the public key, {form}", f"{signed}.{base64url(signature)}")
        null = f"{base64url(json.dumps(self.header('HS256', key, kid='/dev/null')))}.{base64url(json.dumps(claims))}"
        zero = base64url(self.library.hmac(b"\0" * 32, "HS256", null.encode()))
        # HS256 is not allowed where keys are fetched; where it is, nobody has a key of that name.
        add("HS256 keyed with zeros, kid is a path", f"{null}.{zero}", unknown=alg == "HS256")
        if alg in RSA and not self.library.one_key_per_family:
            sibling = alg.replace("RS", "PS") if alg.startswith("RS") else alg.replace("PS", "RS")
            head = json.dumps(self.header(sibling, key))
            token = self.by_hand(key, sibling, head, json.dumps(claims))
            add(f"{sibling} with a key that is published for {alg}", token, unknown=True)

    def hostile_shapes(self, alg, key, token):
        found = []
        head, payload, signature = token.split(".")
        octets = unbase64url(signature)
        admin = base64url(json.dumps(self.claims(sub="admin")))

        def add(name, token):
            if token is not None:
                found.append({"name": name, "stage": "token", "token": token})

        add("encrypted, the token nested in it", self.library.encrypted(key, token))
        add("JSON serialisation", self.library.json_serialisation(key, self.header(alg, key), json.dumps(self.claims())))
        add("payload detached", f"{head}..{signature}")
        add("payload swapped", f"{head}.{admin}.{signature}")
        add("header swapped", f"{base64url(json.dumps(self.header(alg, key, typ='JWT')))}.{payload}.{signature}")
        add("signature stripped", f"{head}.{payload}.")
        add("signature and its dot stripped", f"{head}.{payload}")
        add("signature cut short", token[:-4])
        add("signature of zeros", f"{head}.{payload}.{base64url(bytes(len(octets)))}")
        other = self.encode(key, self.header(alg, key), self.claims()).split(".")[2]
        add("signature of another token", f"{head}.{payload}.{other}")
        for name, at in [("first", 0), ("middle", len(octets) // 2), ("last", len(octets) - 1)]:
            flipped = bytes([*octets[:at], octets[at] ^ 1, *octets[at + 1:]])
            add(f"one bit of the {name} octet of the signature flipped", f"{head}.{payload}.{base64url(flipped)}")
        add("zero behind the signature", f"{head}.{payload}.{base64url(octets + bytes(1))}")
        other_alphabet = base64.b64encode(b"\xfb\xff" + octets[2:]).decode()
        add("signature in another alphabet", f"{head}.{payload}.{other_alphabet}")
        add("signature padded", f"{head}.{payload}.{signature}{'=' * (-len(signature) % 4 or 4)}")
        add("line feed behind", f"{token}\n")
        add("line feed in the payload", f"{head}.{payload[:8]}\n{payload[8:]}.{signature}")
        add("dot behind", f"{token}.")
        add("dot in front", f".{token}")
        add("empty parts", "..")
        add("longer than 8 KiB", self.by_hand(key, alg, json.dumps(self.header(alg, key)), json.dumps(self.claims(x="x" * 8000))))
        if alg in EC:
            half = len(octets) // 2
            r, s = octets[:half], octets[half:]
            numbers = int.from_bytes(r), int.from_bytes(s)
            for name, other in [
                ("signature in DER", utils.encode_dss_signature(*numbers)),
                ("r and s swapped", s + r),
                ("r = s = 0", bytes(2 * half)),
                ("r and s with a zero in front", bytes(1) + r + bytes(1) + s),
            ]:
                add(name, f"{head}.{payload}.{base64url(other)}")
        return found

    # --- hostile claims: properly signed, and still not for us or not now

    def hostile_claims(self, alg, key):
        found = []

        def add(name, token):
            found.append({"name": name, "stage": "claims", "token": token})

        def sign(name, head=(), **changes):
            add(name, self.encode(key, self.header(alg, key, **dict(head)), self.claims(**changes)))

        def sign_text(name, payload):
            add(name, self.by_hand(key, alg, json.dumps(self.header(alg, key)), payload))

        sign("expired", iat=NOW - 2 * HOUR, exp=NOW - HOUR)
        sign("expired, as a fraction", exp=NOW - HOUR + 0.5)
        sign("no exp", exp=ABSENT)
        sign("not yet valid", nbf=NOW + HOUR / 2)
        sign("issued in the future", iat=NOW + HOUR / 2)
        for claim in ["exp", "nbf", "iat"]:
            for name, value in [
                ("is text", str(NOW + HOUR)), ("is null", None), ("is true", True), ("is an array", [NOW + HOUR]),
                ("is negative", -1), ("is beyond the year 9999", 10**12), ("is beyond every integer", 10**30),
                ("is infinite", float("inf")), ("is not a number", float("nan")),
            ]:
                sign(f"{claim} {name}", **{claim: value})
        sign("aud of others", aud=OTHER_AUDIENCE)
        sign("aud absent", aud=ABSENT)
        for name, aud in [
            ("empty", []), ("null", None), ("an object", {AUDIENCE: True}), ("with a suffix", f"{AUDIENCE}/"),
            ("with a space", f"{AUDIENCE} "), ("two in one text", f"{OTHER_AUDIENCE} {AUDIENCE}"),
            ("in another letter case", AUDIENCE.upper()), ("an array of arrays", [[AUDIENCE]]),
            ("an array with a number", [AUDIENCE, 7]), ("a part of it", AUDIENCE[:-1]), ("a longer one", f"{AUDIENCE}.evil"),
        ]:
            sign(f"aud is {name}", aud=aud)
        sign("iss of others", iss="https://issuer.example")
        sign("iss absent", iss=ABSENT)
        for name, iss in [
            ("an array", [self.issuer]), ("null", None), ("with a slash", f"{self.issuer}/"),
            ("in another letter case", self.issuer.swapcase()), ("a part of it", self.issuer[:-1]),
        ]:
            sign(f"iss is {name}", iss=iss)
        for claim in ["sub", "jti", "client_id", "scope"]:
            sign(f"{claim} is a number", **{claim: 7})
        sign("scope with a space in an array", scope=["orders:read orders:write"])
        for typ in ["dpop+jwt", "logout+jwt", "application/secevent+jwt", "statuslist+jwt", "x"]:
            sign(f"typ {typ}", head={"typ": typ})
        sign("an ID token", at_hash="MTIzNDU2Nzg5MDEyMzQ1Ng")
        sign("a security event", events={"urn:example:event": {}})
        sign("bound to a key", cnf={"jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"})
        payload = json.dumps(self.claims())
        sign_text("exp twice, the last one good", payload.replace("{", f'{{"exp": {NOW - HOUR}, ', 1))
        sign_text("exp twice, the first one good", payload[:-1] + f', "exp": {NOW - HOUR}}}')
        sign_text("sub twice, once with an escape", payload.replace("{", '{"\\u0073ub": "admin", ', 1))
        sign_text("sub with half a surrogate pair", payload.replace("user-1", "\\ud83e"))
        sign_text("claims are an array", f"[{payload}]")
        sign_text("claims are text", json.dumps(payload))
        sign_text("claims are empty", "")
        sign_text("claims with something behind them", f"{payload}{{}}")
        sign_text("claims with a comma behind the last", payload.replace("}", ",}"))
        sign_text("claims in UTF-16", payload.encode("utf-16"))
        sign_text("claims with a byte order mark", payload.encode("utf-8-sig"))
        sign_text("claims are not UTF-8", payload.encode().replace(b"user-1", b"user-\xff"))
        sign_text("claims nested deeply", payload.replace("{", f'{{"x": {"[" * 400}{"]" * 400}, ', 1))
        return found


ABSENT = object()
"""Takes a member out."""


def certificate(key):
    """A chain of one, which its owner has signed; for keys that `cryptography` has certificates for."""
    if not key.pem:
        return None
    public = serialization.load_pem_public_key(key.pem)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "attacker")])
    now = datetime.datetime.now(datetime.timezone.utc)
    # Whoever follows `x5c` without a root does not look at who has signed.
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return [base64.b64encode(signed.public_bytes(serialization.Encoding.DER)).decode()]


def public_member(jwk):
    return unbase64url(jwk.get("n") or jwk.get("x") or jwk["pub"])


def base64url(text):
    octets = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unbase64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


if __name__ == "__main__":
    main()
