"""A token's whole life over real sockets: signed by `countersign serve` for clients of PyJWT and of npm `jose`, shown to an API
under axum, one under hyper and one under tonic, and judged by PyJWT and by `jose`; through a rotation, and through an emergency, after
which nobody may accept what the revoked keys have signed for longer than the service has said. All is ordered over HTTP, by requests
that `countersign request sign` and PyJWT have signed (`REQUESTS.md`).

`run` starts this when the service is ready. Nothing is waited for without looking, or without end.
"""

import atexit
import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import jwt

HERE = os.path.dirname(os.path.abspath(__file__))
INTEROP = os.path.join(HERE, "../interop")
ISSUER, DATA, TARGET = os.environ["ISSUER"], os.environ["DATA"], os.environ["TARGET"]
JWKS = f"{ISSUER}/.well-known/jwks.json"
AUDIENCE, OTHER_AUDIENCE = "orders", "billing"
CLIENT = "first"
OPERATOR, STRANGER = "ops", "hasty"
"""Who has rights over the ring, and who has none; their key is that of the client."""

START = 60
"""Seconds that a program may take to say its first word, on a machine that has others to run."""

ANSWER = 30
"""Seconds for an answer: two of them may be the wait for a key."""

COPY = 20
"""Seconds for which the foreign verifiers keep the key set; less than the `max_age` that it is published with."""

passed, failed = 0, []


def check(what, holds, said=""):
    global passed
    if holds:
        passed += 1
    else:
        failed.append(what)
        print(f"FAILED: {what}: {said}", flush=True)


class Program:
    """One that is spoken to line by line, in JSON, or that only says where it listens."""

    def __init__(self, *command, directory=None):
        environment = {**os.environ, "NODE_NO_WARNINGS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.process.kill)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def listening(self):
        for line in self.process.stdout:
            if line.startswith("listening on "):
                return line.removeprefix("listening on ").strip()
        sys.exit(f"{self.process.args[0]} ended before it listened")


def node(script):
    pinned = os.path.join(INTEROP, "node_modules/.bin/node")
    is_good = subprocess.run([pinned, "--version"], capture_output=True, check=False) if os.path.exists(pinned) else None
    return Program(pinned if is_good and is_good.returncode == 0 else "node", script, directory=INTEROP)


def http(url, token=None, body=None, headers=None):
    """Status, and the body as it is."""
    headers = dict(headers or {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=ANSWER) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# --- whoever accepts tokens: each says `good`, `bad` (no such token), or `lacking` (a scope is)


def api(name):
    url = Program(f"{TARGET}/debug/examples/{name}", *trusted()).listening() + "/orders"
    return lambda token: {200: "good", 401: "bad", 403: "lacking"}.get(http(url, token)[0])


def grpc_api():
    target = Program(f"{TARGET}/debug/examples/tonic_server", *trusted()).listening().removeprefix("http://")
    grpcio = Program(sys.executable, "call.py", directory=INTEROP)

    def judge(token):
        metadata = [] if token is None else [["authorization", f"Bearer {token}"]]
        called = grpcio.ask(
            target=target, method="/orders.v1.Orders/Get", streaming=False, request={"1": "7"}, metadata=metadata
        )
        return {"OK": "good", "UNAUTHENTICATED": "bad", "PERMISSION_DENIED": "lacking"}.get(called["code"])

    return judge


def trusted():
    return "--port", "0", "--jwks-url", JWKS, "--issuer", ISSUER, "--audience", AUDIENCE


def jose():
    port = node("guard.mjs").ask(jwks=JWKS, issuer=ISSUER, audience=AUDIENCE, maxAge=COPY * 1000)["port"]
    return lambda token: {200: "good", 401: "bad"}.get(http(f"http://127.0.0.1:{port}/", token)[0])


def pyjwt():
    keys = jwt.PyJWKClient(JWKS, cache_keys=False, lifespan=COPY)

    def judge(token):
        try:
            key = keys.get_signing_key_from_jwt(token)
            jwt.decode(token, key, algorithms=["ES256", "RS256"], audience=AUDIENCE, issuer=ISSUER)
            return "good"
        except jwt.PyJWTError:
            return "bad"

    return judge


# --- clients


def assertion_by_pyjwt(typ="client-authentication+jwt", audience=ISSUER):
    now = int(time.time())
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": audience, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, PEM, algorithm="ES256", headers={"typ": typ})


def ask(assertion, **request):
    return http(f"{ISSUER}/v1/tokens", assertion, {"profile": "access", "aud": AUDIENCE, "alg": "ES256", **request})


def token(scope="orders:read", **request):
    status, body = ask(assertion_by_pyjwt(), scope=scope, **request)
    if status != 200:
        sys.exit(f"no token: {status} {body}")
    answer = json.loads(body)
    return answer["token"], answer["kid"]


def countersign(*arguments):
    which = "--ring", f"{DATA}/ring", "--kek", f"file:{DATA}/kek", "--issuer", ISSUER
    ran = subprocess.run(
        [f"{TARGET}/debug/countersign", *arguments, *which, "--json"], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        sys.exit(f"countersign {arguments}: {ran.stdout} {ran.stderr}")
    return json.loads(ran.stdout)


# --- operators, whose requests are good for one method, URL and body, once


def signed_by_pyjwt(url, body, client=OPERATOR):
    now = int(time.time())
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
    claims = {
        "iss": client, "sub": client, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4()),
        "htm": "POST", "htu": url, "body_sha256": digest,
    }
    return jwt.encode(claims, PEM, algorithm="ES256", headers={"typ": "request+jwt"})


def signed_by_countersign(url, body, client=OPERATOR):
    who = "--key", f"{DATA}/client.pem", "--alg", "ES256", "--client", client, "--audience", ISSUER
    what = "--method", "POST", "--url", url, "--body", "-"
    command = f"{TARGET}/debug/countersign", "request", "sign", *who, *what
    ran = subprocess.run(command, input=body, capture_output=True, check=True)
    return ran.stdout.decode().strip()


def order(path, sign, **body):
    """What has come of it; whoever has no right to it, or has seen it, has nothing of it."""
    url, body = ISSUER + path, json.dumps(body).encode()
    status, said = http(url, sign(url, body, client=STRANGER), body)
    check(f"{path} is refused to a client without the right", status == 403, said)
    shown = sign(url, body)
    status, said = http(url, shown, body.replace(b"drill", b"other"))
    check(f"{path} is refused with another body than was signed", status == 401, said)
    status, said = http(url, shown, body)
    if status != 200:
        sys.exit(f"{path}: {status} {said}")
    status, again = http(url, shown, body)
    check(f"{path} is refused when it comes again", status == 401, again)
    return json.loads(said)


def until(limit, what, look):
    """What `look` has found, which may be nothing for so many seconds."""
    begun = time.monotonic()
    while (found := look()) is None:
        if time.monotonic() - begun > limit:
            sys.exit(f"not within {limit} s: {what}")
        time.sleep(0.2)
    return found


with open(f"{DATA}/client.pem") as file:
    PEM = file.read()

begun = time.monotonic()

# Who asks.
signer = node("assert.mjs")


def assertion_by_jose(**more):
    return signer.ask(key=PEM, client=CLIENT, audience=ISSUER, **more)["assertion"]


for library, assertion in [("PyJWT", assertion_by_pyjwt), ("jose", assertion_by_jose)]:
    shown = assertion()
    status, body = ask(shown)
    check(f"a client that signs with {library} has a token", status == 200, body)
    status, body = ask(shown)
    check(f"what {library} has signed is good for one request", status == 401, body)
    status, body = ask(assertion(typ="JWT"))
    check(f"an assertion of {library} without its type is refused", status == 401, body)
status, body = ask(assertion_by_pyjwt(audience=f"{ISSUER}/v1/tokens"))
check("an assertion for anything but the issuer is refused", status == 401, body)
status, body = ask(assertion_by_pyjwt(), aud="strangers")
check("an audience that is not granted is refused", status == 403, body)

# Who verifies.
apis = {"axum": api("axum"), "hyper": api("hyper"), "tonic": grpc_api()}
everybody = {**apis, "jose": jose(), "PyJWT": pyjwt()}

old, old_kid = token()
rsa, _ = token(alg="RS256")
lacking, _ = token(scope="")
for_others, _ = token(scope="", aud=OTHER_AUDIENCE)
header, payload, signature = old.split(".")
forged = ".".join([header, payload, base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()])
for name, judge in everybody.items():
    check(f"{name} accepts a token", judge(old) == "good", judge(old))
    check(f"{name} refuses one for others", judge(for_others) == "bad", judge(for_others))
    check(f"{name} refuses one that is not signed", judge(forged) == "bad", judge(forged))
    if name != "jose":
        check(f"{name} accepts one of RS256", judge(rsa) == "good", judge(rsa))
for name, judge in apis.items():
    check(f"{name} misses the scope", judge(lacking) == "lacking", judge(lacking))
    check(f"{name} refuses nobody's request", judge(None) == "bad", judge(None))

# Another key signs.
print(f"end-to-end: rotation is ordered after {time.monotonic() - begun:.0f} s", flush=True)
rotated = order("/v1/keys:rotate", signed_by_countersign, mode="standby", slots=["es256"], reason="drill")
check("the slot is rotated, now or when it can be", "es256" in rotated["rotated"] + rotated["later"], rotated)
print("end-to-end:", rotated, flush=True)


def next_token():
    # All the while nobody refuses what the first key has signed.
    for name, judge in everybody.items():
        if judge(old) != "good":
            sys.exit(f"{name} refuses a token of the first key before anything was revoked")
    found = token()
    return found if found[1] != old_kid else None


new, new_kid = until(150, "another key signs", next_token)
print(f"end-to-end: another key signs after {time.monotonic() - begun:.0f} s", flush=True)
for name, judge in everybody.items():
    check(f"{name} accepts a token of the next key", judge(new) == "good", judge(new))
    check(f"{name} still accepts one of the first", judge(old) == "good", judge(old))

# The key that signs is compromised, and the one before it.
other_slot, _ = token(alg="RS256")
answers = {
    new_kid: order("/v1/keys:rotate", signed_by_countersign, mode="emergency", slots=["es256"], reason="drill"),
    old_kid: order(f"/v1/keys/{old_kid}:revoke", signed_by_pyjwt, reason="drill"),
}
ordered = time.monotonic()
for kid, answer in answers.items():
    check("the answer names the key", answer["revoked"] == [kid], answer)
exposure = max(answer["exposure_seconds"]["without_feed"] for answer in answers.values())
print(f"end-to-end: revoked after {ordered - begun:.0f} s; tokens may be accepted for {exposure} s more", flush=True)
revoked = {"signing key": new, "key before": old}
accept = {(name, which) for name in everybody for which in revoked}


def others_are_good():
    for name, judge in everybody.items():
        if name != "jose" and judge(other_slot) != "good":
            sys.exit(f"{name} refuses a token of a key that nobody has revoked")


def nobody_accepts():
    for name, which in sorted(accept):
        asked = time.monotonic()
        if everybody[name](revoked[which]) == "bad":
            print(f"end-to-end: {name} refuses those of the {which} after {time.monotonic() - ordered:.1f} s", flush=True)
            accept.discard((name, which))
        elif asked - ordered > exposure:
            check(f"{name} refuses tokens of the {which} after the exposure that was said", False, f"{exposure} s")
            accept.discard((name, which))
    others_are_good()
    return None if accept else True


def third_token():
    status, body = ask(assertion_by_pyjwt(), scope="orders:read")
    if status not in (200, 503):
        sys.exit(f"no token, and not because no key may sign yet: {status} {body}")
    answer = json.loads(body)
    return (answer["token"], answer["kid"]) if status == 200 else None


until(exposure + ANSWER, "the tokens of revoked keys are refused", nobody_accepts)
states = {kid: key["state"] for kid, key in countersign("keys", "list")["keys"].items()}
for kid in answers:
    # Once it is destroyed it is not listed any more.
    check("the command line does not list it but as revoked", states.get(kid, "revoked") == "revoked", states)
newest, newest_kid = until(150, "a third key signs", third_token)
print(f"end-to-end: a third key signs after {time.monotonic() - begun:.0f} s", flush=True)
check("the service signs with another key", newest_kid not in (old_kid, new_kid, None), newest_kid)
others_are_good()
for name, judge in everybody.items():
    for which, shown in revoked.items():
        check(f"{name} refuses a token of the {which}", judge(shown) == "bad", judge(shown))
    check(f"{name} accepts a token of now", judge(newest) == "good", judge(newest))

print(f"end-to-end: {passed} passed, {len(failed)} failed, {time.monotonic() - begun:.0f} s", flush=True)
sys.exit(1 if failed else 0)
