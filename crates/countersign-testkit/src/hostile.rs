use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use countersign_token::Algorithm;
use serde_json::{Value, json};

use crate::token::{Token, base64url, sign_input};

/// A token that must be refused. Made by [`Token::hostile`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostileToken {
    /// What is wrong with it, in a few words; no two of a catalogue have the same.
    pub attack: &'static str,
    /// The token, in compact form or what is meant to pass for it. It may contain what no header can carry.
    pub token: String,
    /// Whether it names a key that the issuer does not publish. A verifier may have to look for that key before it can
    /// say no: countersign answers 401 or, while it could not look yet, 429.
    pub names_unknown_key: bool,
}

/// Everything an attacker makes of a good token.
pub(crate) fn catalogue(token: &Token) -> Vec<HostileToken> {
    let mut catalogue = Catalogue { good: token, found: Vec::new() };
    catalogue.algorithms();
    catalogue.signatures();
    catalogue.keys();
    catalogue.headers();
    catalogue.serialisations();
    catalogue.claims();
    catalogue.issuer_and_audience();
    catalogue.found
}

struct Catalogue<'a> {
    good: &'a Token,
    found: Vec<HostileToken>,
}

impl Catalogue<'_> {
    fn add(&mut self, attack: &'static str, token: impl Into<String>) {
        self.found.push(HostileToken { attack, token: token.into(), names_unknown_key: false });
    }

    fn add_unknown(&mut self, attack: &'static str, token: String) {
        self.found.push(HostileToken { attack, token, names_unknown_key: true });
    }

    fn token(&self) -> Token {
        self.good.clone()
    }

    /// The parts of the good token.
    fn parts(&self) -> [String; 3] {
        let token = self.good.sign();
        let mut parts = token.split('.').map(str::to_owned);
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }

    /// `alg` as the attacker wants it (RFC 8725 §2.1, §3.1).
    fn algorithms(&mut self) {
        let [_, payload, signature] = self.parts();
        for (bare, signed, none) in [
            ("alg none, no signature", "alg none, old signature", "none"),
            ("alg None, no signature", "alg None, old signature", "None"),
            ("alg NONE, no signature", "alg NONE, old signature", "NONE"),
            ("alg nOnE, no signature", "alg nOnE, old signature", "nOnE"),
        ] {
            let header = base64url(self.token().header("alg", none).header_text());
            self.add(bare, format!("{header}.{payload}."));
            self.add(signed, format!("{header}.{payload}.{signature}"));
        }
        self.add("alg absent", self.token().without_header("alg").sign());
        self.add("alg null", self.token().header("alg", Value::Null).sign());
        self.add("alg empty", self.token().header("alg", "").sign());
        self.add("alg a list", self.token().header("alg", vec![self.good.key().algorithm().name()]).sign());
        let lower = self.good.key().algorithm().name().to_lowercase();
        self.add("alg in lower case", self.token().header("alg", lower).sign());
        self.add(
            "alg with a space behind",
            self.token().header("alg", format!("{} ", self.good.key().algorithm())).sign(),
        );
        self.hmac_with_the_public_key();
    }

    /// Whoever takes the algorithm from the token takes the public key for a secret (CVE-2015-9235 and a dozen since).
    fn hmac_with_the_public_key(&mut self) {
        let key = self.good.key().clone();
        let Some(der) = key.public_der() else { return };
        let pem = key.public_pem();
        let jwk = key.public_jwk();
        let member = ["n", "x", "pub"].iter().find_map(|name| jwk[*name].as_str()).unwrap_or_default();
        let member = BASE64_URL_SAFE_NO_PAD.decode(member).unwrap_or_default();
        for (attack, secret) in [
            ("HS256 keyed with the public key in PEM", pem.as_bytes()),
            ("HS256 keyed with the public key in PEM, trimmed", pem.trim_end().as_bytes()),
            ("HS256 keyed with the public key in DER", der),
            ("HS256 keyed with the text of the public JWK", jwk.to_string().as_bytes()),
            ("HS256 keyed with the bare public member", &member),
            ("HS256 keyed with nothing", b""),
        ] {
            let header = self.token().header("alg", "HS256").header_text();
            let input = format!("{}.{}", base64url(header), base64url(self.good.claims_text()));
            let signature = hmac_sha256(secret, input.as_bytes());
            self.add(attack, format!("{input}.{}", base64url(signature)));
        }
    }

    /// The signature left out, damaged, or taken from elsewhere.
    fn signatures(&mut self) {
        let [header, payload, signature] = self.parts();
        let octets = BASE64_URL_SAFE_NO_PAD.decode(&signature).unwrap_or_default();
        let with = |octets: &[u8]| format!("{header}.{payload}.{}", base64url(octets));
        self.add("signature stripped", format!("{header}.{payload}."));
        self.add("signature and its dot stripped", format!("{header}.{payload}"));
        self.add("signature cut short", with(&octets[..octets.len() - 1]));
        self.add("signature with an octet behind", with(&[&octets[..], &[0]].concat()));
        self.add("signature with an octet in front", with(&[&[0], &octets[..]].concat()));
        self.add("signature of zeros", with(&vec![0; octets.len()]));
        self.add("signature of ones", with(&vec![0xff; octets.len()]));
        let mut flipped = octets.clone();
        flipped[0] ^= 1;
        self.add("a bit of the signature flipped", with(&flipped));
        let admin = base64url(self.token().subject("admin").claims_text());
        self.add("payload swapped", format!("{header}.{admin}.{signature}"));
        let other = base64url(self.token().header("x", 1).header_text());
        self.add("header swapped", format!("{other}.{payload}.{signature}"));
        if matches!(self.good.key().algorithm(), Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512) {
            self.add("ECDSA signature in DER", with(&der_sequence(&octets)));
        }
    }

    /// The attacker's own key, in every way to pass it off as the issuer's.
    fn keys(&mut self) {
        let attacker = self.good.key().impostor();
        let unnamed = attacker.clone().without_kid();
        let jwk = if attacker.algorithm().is_symmetric() {
            json!({ "kty": "oct", "k": base64url(attacker.secret().unwrap_or_default()) })
        } else {
            unnamed.public_jwk()
        };
        let forged = self.token().signed_by(&attacker);
        let unnamed = self.token().signed_by(&unnamed);
        self.add("attacker's key under the good kid", forged.sign());
        self.add("attacker's key without a kid", unnamed.sign());
        self.add("attacker's key embedded as jwk", forged.clone().header("jwk", jwk.clone()).sign());
        self.add("attacker's key embedded as jwk, without a kid", unnamed.header("jwk", jwk).sign());
        self.add("attacker's key set as jku", forged.clone().header("jku", ATTACKERS_URL).sign());
        self.add("attacker's certificate as x5u", forged.clone().header("x5u", ATTACKERS_URL).sign());
        self.add("attacker's certificate as x5c", forged.clone().header("x5c", vec!["MIIB"]).sign());
        self.add("kid of another type", self.token().header("kid", 1).sign());
        self.add("kid too long", self.token().header("kid", "k".repeat(4096)).sign());
        self.add(
            "kid twice",
            self.token().sign_parts(twice(&forged.header_text(), "kid", "x"), self.good.claims_text()),
        );
        for (attack, kid) in [
            ("attacker's key under a kid of his own", "attacker"),
            ("kid is a path", "../../../../dev/null"),
            ("kid is a URL", ATTACKERS_URL),
            ("kid is SQL", "' OR '1'='1"),
            ("kid with control characters", "k\r\nx: y\0"),
            ("kid empty", ""),
        ] {
            self.add_unknown(attack, forged.clone().header("kid", kid).sign());
        }
    }

    /// Header members that change what a token means (RFC 7515 §4.1.11, RFC 7797, RFC 8725 §3.11).
    fn headers(&mut self) {
        let claims = self.good.claims_text();
        self.add("crit names an extension", self.token().header("crit", vec!["x-must"]).header("x-must", true).sign());
        self.add("crit empty", self.token().header("crit", json!([])).sign());
        self.add("crit no list", self.token().header("crit", "exp").sign());
        self.add("b64 false", self.token().header("crit", vec!["b64"]).header("b64", false).sign());
        self.add("b64 false without crit", self.token().header("b64", false).sign());
        self.add("zip", self.token().header("zip", "DEF").sign());
        for (attack, typ) in [
            ("a DPoP proof", "dpop+jwt"),
            ("a logout token", "logout+jwt"),
            ("a security event token", "secevent+jwt"),
            ("an authorization request", "oauth-authz-req+jwt"),
        ] {
            self.add(attack, self.token().typ(typ).sign());
        }
        let header = self.good.header_text();
        self.add("alg twice", self.token().sign_parts(twice(&header, "alg", "none"), &claims));
        self.add("header in a list", self.token().sign_parts(format!("[{header}]"), &claims));
        self.add("header with something behind it", self.token().sign_parts(format!("{header}{{}}"), &claims));
        self.add("header not UTF-8", self.token().sign_parts(b"{\"alg\":\"\xff\"}", &claims));
        self.add("header empty", self.token().sign_parts("", &claims));
        self.add("header too deep", self.token().header("x", deep()).sign());
    }

    /// What is no compact JWS, or not the only spelling of it (RFC 7515 §2, §7.1).
    fn serialisations(&mut self) {
        let [header, payload, signature] = self.parts();
        let token = self.good.sign();
        self.add("a dot behind", format!("{token}."));
        self.add("a dot in front", format!(".{token}"));
        self.add("nothing but dots", "..");
        self.add("five parts, like a JWE", format!("{header}.{header}.{payload}.{payload}.{signature}"));
        let json = json!({ "protected": header, "payload": payload, "signature": signature });
        self.add("JSON serialisation", json.to_string());
        self.add("padded", format!("{header}.{payload}.{signature}="));
        self.add("white space behind", format!("{token} "));
        self.add("white space inside", format!("{header}.{payload}. {signature}"));
        self.add("line feed inside", format!("{header}.{payload}.{}\n{}", &signature[..8], &signature[8..]));
        if let Some(stray) = with_stray_bits(&signature) {
            self.add("stray bits in the last character", format!("{header}.{payload}.{stray}"));
        }
        // Something with a `/` or a `+`, wherever the groups of three octets begin.
        let claims = self.token().claim("x", "~~~???~~~???~~~").claims_text();
        let input = format!("{header}.{}", BASE64_STANDARD_NO_PAD.encode(claims));
        self.add("payload in the alphabet of plain base64", sign_input(&input, self.good.key()));
        // Longer than any limit, and short enough for servers that take 16 KiB of headers.
        self.add("too long", self.token().claim("x", "a".repeat(12 * 1024)).sign());
    }

    /// Properly signed, and still not for this service, or not now (RFC 7519 §4.1).
    fn claims(&mut self) {
        let hour = 3600;
        let at = |name: &str| self.good.claims().get(name).and_then(Value::as_i64).unwrap_or_default();
        let (iat, exp) = (at("iat"), at("exp"));
        self.add("expired", self.token().claim("iat", iat - 2 * hour).claim("exp", iat - hour).sign());
        self.add("exp absent", self.token().without("exp").sign());
        self.add("exp null", self.token().claim("exp", Value::Null).sign());
        self.add("exp is text", self.token().claim("exp", exp.to_string()).sign());
        self.add("exp negative", self.token().claim("exp", -1).sign());
        self.add("exp beyond all calendars", self.raw_claim("exp", "1e300"));
        self.add("not yet valid", self.token().claim("nbf", iat + hour).sign());
        self.add("nbf is text", self.token().claim("nbf", "never").sign());
        self.add("issued in the future", self.token().claim("iat", iat + hour).claim("exp", iat + 2 * hour).sign());

        let (header, claims) = (self.good.header_text(), self.good.claims_text());
        self.add("sub of another type", self.token().claim("sub", json!({ "a": 1 })).sign());
        self.add(
            "bound to a key",
            self.token().claim("cnf", json!({ "jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" })).sign(),
        );
        self.add("exp twice", self.token().sign_parts(&header, twice(&claims, "exp", 1)));
        self.add("claims in a list", self.token().sign_parts(&header, format!("[{claims}]")));
        self.add("claims with something behind them", self.token().sign_parts(&header, format!("{claims}{{}}")));
        self.add(
            "claims not UTF-8",
            self.token().sign_parts(&header, [&b"{\"sub\":\"\xff\","[..], &claims.as_bytes()[1..]].concat()),
        );
        self.add("claims empty", self.token().sign_parts(&header, ""));
        self.add("claims too deep", self.token().claim("x", deep()).sign());
        let inner = self.good.sign();
        self.add("another token for claims", self.token().header("cty", "JWT").sign_parts(&header, inner));
    }

    /// Another issuer's token, or one for another service. What the good token does not have cannot be wrong.
    fn issuer_and_audience(&mut self) {
        if let Some(iss) = self.good.claims().get("iss").and_then(Value::as_str).map(str::to_owned) {
            self.add("iss absent", self.token().without("iss").sign());
            self.add("iss another", self.token().claim("iss", "https://attacker.example").sign());
            self.add("iss with a slash behind", self.token().claim("iss", format!("{iss}/")).sign());
            self.add("iss in another case", self.token().claim("iss", other_case(&iss)).sign());
            self.add("iss in a list", self.token().claim("iss", vec![iss]).sign());
        }
        let aud = self.good.claims().get("aud");
        let first = aud.and_then(Value::as_array).and_then(|list| list.first()).or(aud);
        if let Some(aud) = first.and_then(Value::as_str).map(str::to_owned) {
            self.add("aud absent", self.token().without("aud").sign());
            let second = twice(&self.good.claims_text(), "aud", "x");
            self.add("aud twice", self.token().sign_parts(self.good.header_text(), second));
            self.add("aud another", self.token().claim("aud", "somebody-else").sign());
            self.add("aud with something behind", self.token().claim("aud", format!("{aud}x")).sign());
            self.add("aud in another case", self.token().claim("aud", other_case(&aud)).sign());
            self.add("aud an empty list", self.token().claim("aud", json!([])).sign());
            self.add("aud an object", self.token().claim("aud", json!({ aud: true })).sign());
        }
    }

    /// The good claims with one of them in a spelling that no library writes.
    fn raw_claim(&self, name: &str, json: &str) -> String {
        let claims = self.token().without(name).claims_text();
        self.token().sign_parts(self.good.header_text(), format!("{{\"{name}\":{json},{}", &claims[1..]))
    }
}

const ATTACKERS_URL: &str = "https://attacker.example/jwks.json";

/// A JSON object whose first member has a second value, before the good one.
fn twice(object: &str, name: &str, first: impl Into<Value>) -> String {
    format!("{{\"{name}\":{},{}", first.into(), &object[1..])
}

/// Deeper than anybody needs; a parser that recurses may run out of stack.
fn deep() -> Value {
    (0..120).fold(Value::Null, |inner, _| json!([inner]))
}

fn other_case(text: &str) -> String {
    if text.chars().any(char::is_lowercase) { text.to_uppercase() } else { text.to_lowercase() }
}

/// Another spelling of the same octets, if their length leaves bits over (RFC 4648 §3.5).
fn with_stray_bits(part: &str) -> Option<String> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if part.len().is_multiple_of(4) {
        return None;
    }
    let (start, last) = part.split_at(part.len() - 1);
    let next = ALPHABET.find(last)? + 1;
    Some(format!("{start}{}", ALPHABET.get(next..=next)?))
}

/// `r` and `s` as X.509 writes them.
fn der_sequence(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    let mut body = Vec::new();
    for half in [r, s] {
        let start = half.iter().position(|octet| *octet != 0).unwrap_or(half.len() - 1);
        let sign = half[start] & 0x80 != 0;
        body.extend([0x02, (half.len() - start + usize::from(sign)) as u8]);
        body.extend(sign.then_some(0));
        body.extend(&half[start..]);
    }
    let length = body.len() as u8;
    let head: &[u8] = if length < 0x80 { &[0x30, length] } else { &[0x30, 0x81, length] };
    [head, &body].concat()
}

/// HMAC-SHA256 under octets that `countersign` itself would not take for a secret.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}
