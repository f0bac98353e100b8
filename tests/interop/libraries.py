"""PyJWT, joserfc and jwcrypto behind one interface, each used as its documentation says.

A library makes keys of its own kind, writes its public keys as JWKs, writes tokens, and judges tokens of others. `encode` is
its front door, which may decline to write what is hostile; `sign` is the bare signature behind that door.
"""

import importlib.metadata
import json
import secrets
import warnings
from dataclasses import dataclass
from functools import lru_cache

import jwt as pyjwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwe as joserfc_jwe
from joserfc import jwk as joserfc_jwk
from joserfc import jws as joserfc_jws
from joserfc import jwt as joserfc_jwt
from jwcrypto import jwa, jwe, jwk, jws
from jwcrypto import jwt as jwcrypto_jwt

# They warn of short HMAC keys and old algorithms, which is what some of this is about.
warnings.simplefilter("ignore")

RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
EC = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
HMAC = ["HS256", "HS384", "HS512"]
ED25519 = ["EdDSA", "Ed25519"]
ML_DSA = ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]

ALGORITHMS = [*RSA, *EC, *ED25519, *ML_DSA, *HMAC]

LEEWAY = 30
"""Seconds; as much as the service allows, so that the two can be compared."""


@dataclass
class Key:
    """A key pair or a secret, as the library has it; `jwk` is its public JWK, and that of a secret the secret."""

    kid: str
    private: object
    jwk: dict
    pem: bytes | None = None
    secret: bytes | None = None


class PyJwt:
    name = "PyJWT"
    package = "PyJWT"
    algorithms = [*RSA, *EC, "EdDSA", *HMAC]
    # It writes neither `alg` nor `kid`, and so one key serves its whole family.
    one_key_per_family = True

    def generate(self, alg, kid):
        if alg in HMAC:
            secret = secrets.token_bytes(int(alg[2:]) // 8)
            return Key(kid, secret, json.loads(pyjwt.algorithms.HMACAlgorithm.to_jwk(secret)), secret=secret)
        if alg in RSA:
            private, form = rsa.generate_private_key(65537, 2048), pyjwt.algorithms.RSAAlgorithm
        elif alg in EC:
            curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[alg]
            private, form = ec.generate_private_key(curve()), pyjwt.algorithms.ECAlgorithm
        else:
            private, form = ed25519.Ed25519PrivateKey.generate(), pyjwt.algorithms.OKPAlgorithm
        public = private.public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return Key(kid, private, {**json.loads(form.to_jwk(public)), "kid": kid}, pem)

    def key_set(self, keys):
        return {"keys": [key.jwk for key in keys]}

    def encode(self, key, header, claims):
        extra = {name: value for name, value in header.items() if name != "alg"}
        # It writes `typ` itself unless it is told an empty one.
        return pyjwt.encode(claims, key.private, header["alg"], headers={"typ": None, **extra})

    def unsigned(self, header, claims):
        return pyjwt.encode(claims, None, "none", headers={**header, "alg": "none"})

    def sign(self, key, alg, octets):
        return pyjwt.PyJWS().get_algorithm_by_name(alg).sign(octets, key.private)

    def hmac(self, secret, alg, octets):
        return pyjwt.PyJWS().get_algorithm_by_name(alg).sign(octets, secret)

    def unencoded(self, key, header, payload):
        return pyjwt.PyJWS().encode(payload, key.private, header["alg"], headers={**header, "b64": False})

    def encrypted(self, key, token):
        return None

    def json_serialisation(self, key, header, payload):
        return None

    def verify(self, token, alg, keys, issuer, audience):
        kid = pyjwt.get_unverified_header(token).get("kid")
        by_kid, every = self._load(json.dumps(keys), alg)
        if kid is not None and kid not in by_kid:
            raise pyjwt.PyJWKSetError("no such key")
        for key in every if kid is None else [by_kid[kid]]:
            try:
                return pyjwt.decode(
                    token, key, algorithms=[alg], issuer=issuer, audience=audience, leeway=LEEWAY,
                    options={"require": ["exp", "iss", "aud"]},
                )
            except (pyjwt.InvalidSignatureError, pyjwt.InvalidKeyError) as error:
                mismatch = error
        raise mismatch

    @lru_cache
    def _load(self, keys, alg):
        every = {}
        for member in json.loads(keys)["keys"]:
            try:
                every[member.get("kid")] = pyjwt.PyJWK(member, alg)
            except pyjwt.PyJWTError:
                continue  # of another family
        return every, list(every.values())


class Joserfc:
    name = "joserfc"
    package = "joserfc"
    algorithms = [*RSA, *EC, *ED25519, *HMAC]
    one_key_per_family = False

    def generate(self, alg, kid):
        parameters = {"kid": kid, "alg": alg, "use": "sig"}
        if alg in HMAC:
            private = joserfc_jwk.OctKey.generate_key(int(alg[2:]), parameters)
            return Key(kid, private, private.as_dict(), secret=private.raw_value)
        if alg in RSA:
            private = joserfc_jwk.RSAKey.generate_key(2048, parameters)
        elif alg in EC:
            private = joserfc_jwk.ECKey.generate_key(EC[alg], parameters)
        else:
            private = joserfc_jwk.OKPKey.generate_key("Ed25519", parameters)
        return Key(kid, private, private.as_dict(private=False), private.as_pem(private=False))

    def key_set(self, keys):
        return joserfc_jwk.KeySet([key.private for key in keys]).as_dict(private=False)

    def encode(self, key, header, claims):
        registry = joserfc_jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
        return joserfc_jwt.encode(header, claims, key.private, registry=registry, default_type=None)

    def unsigned(self, header, claims):
        return joserfc_jwt.encode({**header, "alg": "none"}, claims, None, algorithms=["none"])

    def sign(self, key, alg, octets):
        return joserfc_jws.JWSRegistry.algorithms[alg].sign(octets, key.private)

    def hmac(self, secret, alg, octets):
        return joserfc_jws.JWSRegistry.algorithms[alg].sign(octets, _AnySecret(secret))

    def unencoded(self, key, header, payload):
        header = {**header, "b64": False, "crit": ["b64"]}
        return joserfc_jws.serialize_compact(header, payload, key.private, algorithms=[header["alg"]])

    def encrypted(self, key, token):
        header, recipient = {"alg": "dir", "enc": "A128CBC-HS256", "cty": "JWT"}, joserfc_jwk.OctKey.generate_key(256)
        return joserfc_jwe.encrypt_compact(header, token, recipient)

    def json_serialisation(self, key, header, payload):
        serialised = joserfc_jws.serialize_json({"protected": header}, payload, key.private, algorithms=[header["alg"]])
        return json.dumps(serialised)

    def verify(self, token, alg, keys, issuer, audience):
        verified = joserfc_jwt.decode(token, self._load(json.dumps(keys)), algorithms=[alg])
        joserfc_jwt.JWTClaimsRegistry(
            leeway=LEEWAY, iss={"essential": True, "value": issuer}, aud={"essential": True, "value": audience},
            exp={"essential": True},
        ).validate(verified.claims)
        return verified.claims

    @lru_cache
    def _load(self, keys):
        return joserfc_jwk.KeySet.import_key_set(json.loads(keys))


class Jwcrypto:
    name = "jwcrypto"
    package = "jwcrypto"
    algorithms = [*RSA, *EC, *ED25519, *ML_DSA, *HMAC]
    one_key_per_family = False

    def generate(self, alg, kid):
        if alg in HMAC:
            private = jwk.JWK.generate(kty="oct", size=int(alg[2:]), alg=alg, use="sig", kid=kid)
            return Key(kid, private, private.export(as_dict=True), secret=_octets(private))
        if alg in RSA:
            material = {"kty": "RSA", "size": 2048}
        elif alg in EC:
            material = {"kty": "EC", "crv": EC[alg]}
        elif alg in ML_DSA:
            material = {"kty": "AKP"}
        else:
            material = {"kty": "OKP", "crv": "Ed25519"}
        private = jwk.JWK.generate(**material, alg=alg, use="sig", kid=kid)
        return Key(kid, private, private.export_public(as_dict=True), private.export_to_pem())

    def key_set(self, keys):
        key_set = jwk.JWKSet()
        for key in keys:
            key_set.add(key.private)
        return key_set.export(private_keys=False, as_dict=True)

    def encode(self, key, header, claims):
        token = jwcrypto_jwt.JWT(header=header, claims=claims, algs=[header["alg"]])
        token.make_signed_token(key.private)
        return token.serialize()

    def unsigned(self, header, claims):
        header = json.dumps({**header, "alg": "none"})
        parts = jws.JWSCore("none", jwk.JWK(kty="oct", k=""), header, json.dumps(claims), algs=["none"]).sign()
        return f"{parts['protected']}.{parts['payload'].decode()}.{parts['signature']}"

    def sign(self, key, alg, octets):
        return jwa.JWA.signing_alg(alg).sign(key.private, octets)

    def hmac(self, secret, alg, octets):
        # It declines secrets shorter than the hash. HMAC itself fills them up with zeros (RFC 2104).
        secret = jwk.JWK(kty="oct", k=jwk.base64url_encode(secret.ljust(64, b"\0")))
        return jwa.JWA.signing_alg(alg).sign(secret, octets)

    def unencoded(self, key, header, payload):
        token = jws.JWS(payload)
        header = {**header, "b64": False, "crit": ["b64"]}
        token.add_signature(key.private, alg=header["alg"], protected=json.dumps(header))
        token.detach_payload()
        return token.serialize(compact=True)

    def encrypted(self, key, token):
        header = json.dumps({"alg": "dir", "enc": "A128CBC-HS256", "cty": "JWT"})
        return jwe.JWE(token, header, recipient=jwk.JWK.generate(kty="oct", size=256)).serialize(compact=True)

    def json_serialisation(self, key, header, payload):
        token = jws.JWS(payload)
        token.allowed_algs = [header["alg"]]
        token.add_signature(key.private, protected=json.dumps(header))
        return token.serialize()

    def verify(self, token, alg, keys, issuer, audience):
        verified = jwcrypto_jwt.JWT(
            algs=[alg], expected_type="JWS", check_claims={"iss": issuer, "aud": audience, "exp": None},
        )
        verified.leeway = LEEWAY
        verified.deserialize(token, self._load(json.dumps(keys)))
        return json.loads(verified.claims)

    @lru_cache
    def _load(self, keys):
        return jwk.JWKSet.from_json(keys)


class _AnySecret:
    """A secret that joserfc has not looked at: it does not take a public key for one."""

    def __init__(self, secret):
        self.secret = secret

    def get_op_key(self, operation):
        return self.secret


def _octets(key):
    return jwk.base64url_decode(key.export(as_dict=True)["k"])


LIBRARIES = [PyJwt(), Joserfc(), Jwcrypto()]


def version(library):
    return importlib.metadata.version(library.package)
