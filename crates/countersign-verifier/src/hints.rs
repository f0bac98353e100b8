//! What a refusal is likely to come from, and what to do, in words.

use std::time::Duration;

use countersign_claims::revocation::Revoked;
use countersign_claims::{ClaimError, Found, UnixTime};
use countersign_token::{Algorithm, AlgorithmSet, Part, SignatureError, TokenError};

use crate::environment;
use crate::explain::Verdict;
use crate::refusal::Refusal;
use crate::shown::Shown;

const CUT: &str = "the token was cut: look at the header buffers and limits of every proxy on the way, and at the field that it is stored in";

pub(crate) fn of(
    text: &str,
    verdict: &Verdict,
    broken: &[&ClaimError],
    shown: &Shown,
    leeway: Duration,
) -> Vec<String> {
    let refusal = match verdict {
        Verdict::Refused(refusal) => Some(refusal),
        _ => None,
    };
    let mut hints: Vec<String> = refusal.and_then(|refusal| of_refusal(text, refusal, shown)).into_iter().collect();
    hints.extend(broken.iter().filter_map(|error| of_claim(error, shown, leeway)));
    // Two rules may be broken for one reason.
    let mut told = Vec::with_capacity(hints.len());
    for hint in hints {
        if !told.contains(&hint) {
            told.push(hint);
        }
    }
    told
}

fn of_refusal(text: &str, refusal: &Refusal, shown: &Shown) -> Option<String> {
    let hint = match refusal {
        Refusal::Token(TokenError::TooLong { .. }) => {
            "ask the issuer for fewer groups or roles in the token, or allow more with `max_token_bytes`"
        }
        Refusal::Token(_) | Refusal::Signature(SignatureError::Base64(_)) if around_the_token(text).is_some() => {
            return around_the_token(text).map(str::to_owned);
        }
        Refusal::Token(TokenError::NotThreeParts) => return not_three_parts(text).map(str::to_owned),
        Refusal::Token(TokenError::Encrypted) => {
            "the token is encrypted (JWE): have the issuer sign access tokens for this service and not encrypt them"
        }
        Refusal::Token(TokenError::Base64(_)) | Refusal::Signature(SignatureError::Base64(Part::Payload)) => {
            "the token was changed on its way, or is none"
        }
        Refusal::Token(TokenError::UnsignedAlgorithm) => "the token is not signed: anybody can make such a one",
        Refusal::AlgorithmNotAllowed(algorithm) => return Some(not_allowed(*algorithm)),
        Refusal::KidRequired => "the issuer has to name its key in the token, or drop `require_kid` here",
        Refusal::Signature(SignatureError::TooShort | SignatureError::Base64(Part::Signature)) => CUT,
        Refusal::Signature(SignatureError::Mismatch) if has_no_length_of_rsa(text, shown) => CUT,
        Refusal::Signature(SignatureError::Mismatch) => {
            "the token was changed after it was signed, or another key of the same name has signed it: a key of another environment, or \
             one that was replaced under its old name"
        }
        Refusal::ClaimsType(_) => {
            "the type given to `with_claims` demands what the issuer does not send: make the field an `Option`"
        }
        Refusal::Revoked(Revoked::CutOff { .. }) => {
            "it has to be issued anew: tokens that are issued later than that second are accepted"
        }
        Refusal::Revoked(Revoked::Key) => "the issuer has to sign with another key, and the client needs a new token",
        Refusal::Revoked(_) => "the client needs a new token",
        Refusal::Irrevocable(_) => {
            "have the issuer write that claim, or drop the `require_…` of the check; where a level is in another claim, name it with \
             `Policy::level_claim`"
        }
        Refusal::RevocationsStale { .. } => {
            "the feed of revocations is down, or its publisher: look at the list's status, and at the age in the metrics"
        }
        _ => return None,
    };
    Some(hint.into())
}

/// What was pasted, or passed on, together with the token.
fn around_the_token(text: &str) -> Option<&'static str> {
    if text.trim() != text {
        return Some("there is white space around the token: a line feed at the end of a file, most often");
    }
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        return Some("there are quotes around the token: take them off");
    }
    if text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
        return Some(
            "`Bearer ` is the scheme and no part of the token: it was written twice, or pasted with the token",
        );
    }
    // A token that is too long has not come here.
    if text.contains(['=', '+', '/']) && text.contains('.') {
        return Some(
            "the token is in base64 with `+`, `/` or `=`: something has encoded it anew, or does not follow RFC 7515",
        );
    }
    None
}

/// Whether the algorithm is one of RSA and the signature as long as that of no key in use: its shortest says nothing of those of longer keys,
/// of which a cut one may still be longer.
fn has_no_length_of_rsa(text: &str, shown: &Shown) -> bool {
    /// Of 2048, 3072, 4096 and 8192 bits: all lengths of keys in use are multiples of 1024 bits.
    const UNIT_BYTES: usize = 128;
    let is_rsa =
        shown.header.iter().any(|(name, alg)| *name == "alg" && (alg.starts_with("\"RS") || alg.starts_with("\"PS")));
    let signature = text.rsplit_once('.').map_or(0, |(_, signature)| signature.len() * 3 / 4);
    is_rsa && !signature.is_multiple_of(UNIT_BYTES)
}

fn not_three_parts(text: &str) -> Option<&'static str> {
    // `{"` in base64url, with which the header of nearly every token begins.
    let begins_as_one = text.starts_with("ey");
    match text.bytes().filter(|byte| *byte == b'.').count() {
        _ if text.is_empty() => Some("there is nothing to look at"),
        0 | 1 if begins_as_one => Some(CUT),
        0 => Some(
            "this is no JWT but an opaque token, which only its issuer can read: ask the issuer for JWT access tokens (often by \
             asking for an audience), or use introspection",
        ),
        _ => None,
    }
}

fn not_allowed(algorithm: Algorithm) -> String {
    if AlgorithmSet::HMAC.contains(algorithm) {
        return format!(
            "{algorithm} needs a secret shared with the issuer and is never used with fetched keys: have the issuer sign with RS256 or \
             ES256, or configure the secret and allow {algorithm}"
        );
    }
    format!("allow {algorithm} with `algorithms`, if the issuer is to use it")
}

fn of_claim(error: &ClaimError, shown: &Shown, leeway: Duration) -> Option<String> {
    Some(match error {
        ClaimError::Expired { expired_at, now } => format!(
            "expired {} ago, with {} of leeway: the caller has to get a new one",
            between(*expired_at, *now),
            words(leeway.as_secs())
        ),
        ClaimError::NotYetValid { not_before, now } => {
            format!("valid only in {}: a clock is wrong, the issuer's or this one", between(*now, *not_before))
        }
        ClaimError::IssuedInTheFuture { issued_at, now } => {
            format!("issued {} from now: a clock is wrong, the issuer's or this one", between(*now, *issued_at))
        }
        ClaimError::TooOld { issued_at, now, .. } => {
            format!("issued {} ago: the caller has to get a new one", between(*issued_at, *now))
        }
        ClaimError::LivesTooLong { .. } => {
            "the issuer makes tokens that live longer than `max_lifetime` allows: shorten them there".into()
        }
        ClaimError::Malformed("exp" | "nbf" | "iat") => {
            "times are seconds since 1970, as numbers: milliseconds and texts are refused".into()
        }
        ClaimError::WrongIssuer { wanted, .. } => environment::hint(shown.iss.as_deref()?, wanted),
        ClaimError::WrongAudience { wanted, .. } => {
            let has = shown.claims.iter().find_map(|(name, text)| (*name == "aud").then_some(text.as_str()));
            format!(
                "the token is for {}, and this service is {}: the caller has to ask the issuer for a token for this service",
                has.unwrap_or("somebody else"),
                wanted.iter().map(|audience| Found::new(audience).to_string()).collect::<Vec<_>>().join(" or ")
            )
        }
        ClaimError::IdToken => "the caller sent its ID token: it has to send the access token".into(),
        ClaimError::SecurityEvent => "this is a message of the issuer's to its clients, such as a logout token".into(),
        ClaimError::WrongType(_) => "this is another kind of token, or its type has to be allowed with `accept_type`".into(),
        ClaimError::BoundToKey => {
            "the token is bound to a key of the caller's (DPoP or a client certificate): have the issuer make bearer tokens, or check the \
             proof in front of this service and set `accept_unbound_cnf`"
                .into()
        }
        ClaimError::Missing(claim) => match &**claim {
            "typ" => "the profile of RFC 9068 wants `typ` to be `at+jwt`: not every issuer follows it".into(),
            claim => format!("the issuer has to put {} into the token, or it must not be demanded here", Found::new(claim)),
        },
        _ => return None,
    })
}

fn between(earlier: UnixTime, later: UnixTime) -> String {
    words(later.as_secs().saturating_sub(earlier.as_secs()).unsigned_abs())
}

/// A distance as people say it.
fn words(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}
