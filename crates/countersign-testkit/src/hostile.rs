use std::time::SystemTime;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use countersign_claims::UnixTime;
use countersign_token::Algorithm;
use http::HeaderValue;
use serde_json::{Value, json};

use crate::provider::ATTACKERS_PATH;
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

impl HostileToken {
    /// The value of an `Authorization` field with this token (RFC 6750 §2.1). `None` if there is none: a field cannot carry line
    /// feeds, and HTTP takes white space off its end (RFC 9110 §5.5), after which the token may be a good one.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        let is_kept_whole = self.token == self.token.trim_end_matches([' ', '\t']);
        HeaderValue::try_from(format!("Bearer {}", self.token)).ok().filter(|_| is_kept_whole)
    }
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
        let (indented, text) = (format!("\n {pem}"), jwk.to_string());
        for (attack, hash, secret) in [
            ("HS256 keyed with the public key in PEM", Algorithm::Hs256, pem.as_bytes()),
            ("HS384 keyed with the public key in PEM", Algorithm::Hs384, pem.as_bytes()),
            ("HS512 keyed with the public key in PEM", Algorithm::Hs512, pem.as_bytes()),
            ("HS256 keyed with the public key in PEM, trimmed", Algorithm::Hs256, pem.trim_end().as_bytes()),
            ("HS256 keyed with the public key in PEM behind white space", Algorithm::Hs256, indented.as_bytes()),
            ("HS256 keyed with the public key in DER", Algorithm::Hs256, der),
            ("HS256 keyed with the text of the public JWK", Algorithm::Hs256, text.as_bytes()),
            ("HS256 keyed with the bare public member", Algorithm::Hs256, &member),
            ("HS256 keyed with nothing", Algorithm::Hs256, b""),
        ] {
            self.add(attack, hmac_token(&self.token(), hash, secret));
        }
        // What a verifier reads that takes `kid` for the name of a file.
        self.add(
            "HS256 keyed with an empty file",
            hmac_token(&self.token().header("kid", EMPTY_FILE), Algorithm::Hs256, b""),
        );
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
        // Where the provider would serve the attacker's keys, and take note of who asks.
        let iss = self.good.claims().get("iss").and_then(Value::as_str);
        let url = format!("{}{ATTACKERS_PATH}", iss.unwrap_or("https://attacker.example"));
        let forged = self.token().signed_by(&attacker);
        let unnamed = self.token().signed_by(&unnamed);
        self.add("attacker's key under the good kid", forged.sign());
        self.add("attacker's key without a kid", unnamed.sign());
        self.add("attacker's key embedded as jwk", forged.clone().header("jwk", jwk.clone()).sign());
        self.add("attacker's key embedded as jwk, without a kid", unnamed.header("jwk", jwk).sign());
        self.add("attacker's key set as jku", forged.clone().header("jku", &*url).sign());
        self.add("attacker's certificate as x5u", forged.clone().header("x5u", &*url).sign());
        self.add("x5c that is no certificate", forged.clone().header("x5c", vec!["MIIB"]).sign());
        self.add("kid of another type", self.token().header("kid", 1).sign());
        self.add("kid too long", self.token().header("kid", "k".repeat(4096)).sign());
        if let Some(sibling) = self.good.key().sibling() {
            let token = self.token().signed_by(&sibling);
            self.add_unknown("signed with an algorithm that the key is not published for", token.sign());
        }
        if self.good.key().kid().is_some() {
            let header = twice(&forged.header_text(), "kid", "x");
            self.add("kid twice", self.token().sign_parts(header, self.good.claims_text()));
        }
        for (attack, kid) in [
            ("attacker's key under a kid of his own", "attacker"),
            ("kid is a path", EMPTY_FILE),
            ("kid is a URL", &url),
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
            ("a status list", "statuslist+jwt"),
        ] {
            self.add(attack, self.token().typ(typ).sign());
        }
        let header = self.good.header_text();
        self.add("alg twice", self.token().sign_parts(twice(&header, "alg", "none"), &claims));
        self.add("header in a list", self.token().sign_parts(format!("[{header}]"), &claims));
        self.add("header with something behind it", self.token().sign_parts(format!("{header}{{}}"), &claims));
        let escaped = format!("{{\"\\u0061lg\":\"none\",{}", &header[1..]);
        self.add("alg twice, once by an escape", self.token().sign_parts(escaped, &claims));
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
        self.add("more dots than anybody counts", ".".repeat(4000));
        self.add("five parts, like a JWE", format!("{header}.{header}.{payload}.{payload}.{signature}"));
        let json = json!({ "protected": header, "payload": payload, "signature": signature });
        self.add("JSON serialisation", json.to_string());
        // One parser takes the payload from the member, the other from between the dots (CVE-2022-39227).
        let admin = base64url(self.token().subject("admin").claims_text());
        self.add(
            "compact and JSON serialisation in one",
            format!("{{\"{header}.{admin}.\":\"\",\"protected\":\"{header}\",\"payload\":\"{payload}\",\"signature\":\"{signature}\"}}"),
        );
        let [header_padding, payload_padding, signature_padding] =
            [&header, &payload, &signature].map(|part| padding(part));
        if !signature_padding.is_empty() {
            self.add("padded signature", format!("{header}.{payload}.{signature}{signature_padding}"));
        }
        // These change what is signed.
        let input = format!("{header}{}.{payload}", if header_padding.is_empty() { "=" } else { header_padding });
        self.add("padded header", sign_input(&input, self.good.key()));
        let input = format!("{header}.{payload}{}", if payload_padding.is_empty() { "=" } else { payload_padding });
        self.add("padded payload", sign_input(&input, self.good.key()));
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
        // Longer than the 8 KiB that verifiers take, and short enough for servers that take 16 KiB of headers.
        self.add("too long", self.token().claim("x", "a".repeat(7 * 1024)).sign());
    }

    /// Properly signed, and still not for this service, or not now (RFC 7519 §4.1).
    fn claims(&mut self) {
        let hour = 3600;
        let at = |name: &str| self.good.claims().get(name).and_then(Value::as_i64);
        let exp = at("exp").unwrap_or_else(|| UnixTime::from(SystemTime::now()).as_secs() + hour);
        let iat = at("iat").unwrap_or(exp - hour);
        // Whoever accepts the good token has a clock that shows less than `exp` and its leeway, which is not an hour.
        let start = iat.min(exp - hour);
        self.add("expired", self.token().claim("iat", start - 2 * hour).claim("exp", start - hour).sign());
        if self.good.claims().contains_key("exp") {
            self.add("exp absent", self.token().without("exp").sign());
        }
        self.add("exp null", self.token().claim("exp", Value::Null).sign());
        self.add("exp is text", self.token().claim("exp", exp.to_string()).sign());
        self.add("exp negative", self.token().claim("exp", -1).sign());
        self.add("exp beyond all calendars", self.raw_claim("exp", "1e300"));
        self.add("not yet valid", self.token().claim("nbf", exp + hour).claim("exp", exp + 2 * hour).sign());
        self.add("nbf is text", self.token().claim("nbf", "never").sign());
        self.add("iat is text", self.token().claim("iat", "always").sign());
        self.add("issued in the future", self.token().claim("iat", exp + hour).claim("exp", exp + 2 * hour).sign());

        let (header, claims) = (self.good.header_text(), self.good.claims_text());
        self.add("sub of another type", self.token().claim("sub", json!({ "a": 1 })).sign());
        self.add("an ID token", self.token().claim("at_hash", "77QmUPtjPfzWtF2AnpK9RQ").sign());
        self.add(
            "bound to a key",
            self.token().claim("cnf", json!({ "jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" })).sign(),
        );
        self.add("exp twice", self.token().sign_parts(&header, twice(&claims, "exp", 1)));
        self.add(
            "exp twice, once by an escape",
            self.token().sign_parts(&header, format!("{{\"\\u0065xp\":1,{}", &claims[1..])),
        );
        self.add("claims behind a byte order mark", self.token().sign_parts(&header, format!("\u{feff}{claims}")));
        self.add("claims in a list", self.token().sign_parts(&header, format!("[{claims}]")));
        self.add("claims with something behind them", self.token().sign_parts(&header, format!("{claims}{{}}")));
        self.add(
            "claims not UTF-8",
            self.token().sign_parts(&header, [&b"{\"sub\":\"\xff\","[..], &claims.as_bytes()[1..]].concat()),
        );
        self.add("claims empty", self.token().sign_parts(&header, ""));
        self.add("claims too deep", self.token().claim("x", deep()).sign());
        let inner = self.good.sign();
        self.add(
            "another token for claims",
            self.token().sign_parts(self.token().header("cty", "JWT").header_text(), inner),
        );
    }

    /// Another issuer's token, or one for another service. What the good token does not have cannot be wrong.
    fn issuer_and_audience(&mut self) {
        if let Some(iss) = self.good.claims().get("iss").and_then(Value::as_str).map(str::to_owned) {
            self.add("iss absent", self.token().without("iss").sign());
            self.add("iss another", self.token().claim("iss", "https://attacker.example").sign());
            self.add("iss with a slash behind", self.token().claim("iss", format!("{iss}/")).sign());
            self.add("iss cut short", self.token().claim("iss", shortened(&iss)).sign());
            if let Some(other) = other_case(&iss) {
                self.add("iss in another case", self.token().claim("iss", other).sign());
            }
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
            self.add("aud cut short", self.token().claim("aud", shortened(&aud)).sign());
            self.add(
                "aud a list of near misses",
                self.token().claim("aud", vec![shortened(&aud), format!(" {aud}")]).sign(),
            );
            if let Some(other) = other_case(&aud) {
                self.add("aud in another case", self.token().claim("aud", other).sign());
            }
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

const EMPTY_FILE: &str = "../../../../dev/null";

/// A JSON object whose first member has a second value, before the good one.
fn twice(object: &str, name: &str, first: impl Into<Value>) -> String {
    format!("{{\"{name}\":{},{}", first.into(), &object[1..])
}

/// What was left off the end (RFC 4648 §3.2).
fn padding(part: &str) -> &'static str {
    ["", "===", "==", "="][part.len() % 4]
}

/// Deeper than anybody needs; a parser that recurses may run out of stack.
fn deep() -> Value {
    (0..120).fold(Value::Null, |inner, _| json!([inner]))
}

/// `None` for a text without letters.
fn other_case(text: &str) -> Option<String> {
    let other = if text.chars().any(char::is_lowercase) { text.to_uppercase() } else { text.to_lowercase() };
    Some(other).filter(|other| other != text)
}

/// A part of the text, for those who look for one in the other (CVE-2024-53861).
fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    text.pop();
    text
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

/// The token under an HMAC whose secret `countersign` itself would not take for one.
fn hmac_token(token: &Token, algorithm: Algorithm, secret: &[u8]) -> String {
    let hash = match algorithm {
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    let header = token.clone().header("alg", algorithm.name()).header_text();
    let input = format!("{}.{}", base64url(header), base64url(token.claims_text()));
    let signature = hmac::sign(&hmac::Key::new(hash, secret), input.as_bytes());
    format!("{input}.{}", base64url(signature))
}
