use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Result;
use crate::minted::{Minted, MintedTokens};
use crate::ours::Judgement;
use crate::program::Program;
use crate::service::client;
use crate::tally::Tally;

/// Hostile tokens that a library accepts of itself, configured as its documentation says: with algorithm, issuer, audience, a
/// required `exp` and 30 s of leeway. `tests/README.md` says what to make of them.
const ACCEPTED_THERE: &[(&str, &[&str])] = &[
    // Other kinds of token. Only the caller of a general library knows which kind he wants.
    ("a DPoP proof", &["jose"]),
    ("a logout token", &["jose"]),
    ("a security event token", &["jose"]),
    ("a status list", &["jose"]),
    ("typ dpop+jwt", &["PyJWT", "joserfc", "jwcrypto"]),
    ("typ logout+jwt", &["PyJWT", "joserfc", "jwcrypto"]),
    ("typ application/secevent+jwt", &["PyJWT", "joserfc", "jwcrypto"]),
    ("typ statuslist+jwt", &["PyJWT", "joserfc", "jwcrypto"]),
    ("typ x", &["PyJWT", "joserfc", "jwcrypto"]),
    ("a security event", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    ("an ID token", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    ("bound to a key", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    // The last of two members counts.
    ("alg twice", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    ("kid twice", &["jose"]),
    ("kid twice, once with an escape", &["PyJWT", "joserfc", "jwcrypto"]),
    ("typ twice", &["PyJWT", "joserfc", "jwcrypto"]),
    ("exp twice", &["jose"]),
    ("exp twice, the last one good", &["PyJWT", "joserfc", "jwcrypto"]),
    ("sub twice, once with an escape", &["PyJWT", "joserfc", "jwcrypto"]),
    // Texts that are not the JSON or the base64url that RFC 7515 has.
    ("claims in UTF-16", &["PyJWT", "joserfc"]),
    ("claims with a byte order mark", &["jose", "PyJWT", "joserfc"]),
    ("header in UTF-16", &["PyJWT", "joserfc"]),
    ("header with a byte order mark", &["jose", "PyJWT", "joserfc"]),
    ("header has NaN", &["PyJWT", "jwcrypto"]),
    ("sub with half a surrogate pair", &["PyJWT", "joserfc", "jwcrypto"]),
    ("line feed in the signature", &["jose"]),
    ("padded signature", &["jose"]),
    ("signature padded", &["PyJWT", "jwcrypto"]),
    ("stray bits in the last character", &["jose"]),
    ("white space behind", &["jose"]),
    ("white space in the signature", &["jose"]),
    ("r and s with a zero in front", &["jwcrypto"]),
    // Header members that change what is signed, or say that they do.
    ("b64 false without crit", &["jose"]),
    ("crit empty", &["joserfc", "jwcrypto"]),
    ("zip", &["jose", "PyJWT", "jwcrypto"]),
    // Claims that nobody has looked at, or not closely.
    ("aud array with something else in it", &["jose"]),
    ("client_id is a number", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    ("scope is a number", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    ("scope with a space in an array", &["PyJWT", "joserfc", "jwcrypto"]),
    ("exp is text", &["PyJWT"]),
    ("exp is beyond every integer", &["PyJWT", "joserfc", "jwcrypto"]),
    ("exp is beyond the year 9999", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
    ("iat is beyond every integer", &["jwcrypto"]),
    ("iat is beyond the year 9999", &["jwcrypto"]),
    ("iat is negative", &["PyJWT", "joserfc", "jwcrypto"]),
    ("iat is null", &["jwcrypto"]),
    ("iat is text", &["jwcrypto"]),
    ("iat is true", &["PyJWT", "jwcrypto"]),
    ("issued in the future", &["jose", "jwcrypto"]),
    ("nbf is beyond every integer", &["jwcrypto"]),
    ("nbf is beyond the year 9999", &["jwcrypto"]),
    ("nbf is negative", &["PyJWT", "joserfc", "jwcrypto"]),
    ("nbf is null", &["jwcrypto"]),
    ("nbf is text", &["jwcrypto"]),
    ("nbf is true", &["PyJWT", "jwcrypto"]),
    // With `check_claims`, jwcrypto looks at no `nbf` and no `iat` that is not in them.
    ("not yet valid", &["jwcrypto"]),
    // Size.
    ("header longer than 6 KiB", &["PyJWT", "jwcrypto"]),
    ("claims nested deeply", &["PyJWT", "joserfc", "jwcrypto"]),
    ("header nested deeply", &["PyJWT", "jwcrypto"]),
    ("longer than 8 KiB", &["jose", "PyJWT", "joserfc", "jwcrypto"]),
];

/// Good tokens that a library refuses of itself.
const REFUSED_THERE: &[(&str, &[&str])] =
    &[("header members that nobody knows", &["joserfc"]), ("no kid", &["joserfc"])];

/// Shows a library its own tokens, and says where it judges them otherwise than we do: that has to be known already.
pub(crate) async fn compare(minted: &Minted, judge: &mut Program, tally: &mut Tally) -> Result<()> {
    let keys: Value = client()?.get(&minted.jwks).send().await?.error_for_status()?.text().await?.parse()?;
    let (mut good, mut hostile) = (BTreeMap::new(), BTreeMap::new());
    for tokens in &minted.algorithms {
        for variant in tokens.good() {
            let accepted = ask(minted, tokens, &keys, &variant.token, judge).await?;
            *good.entry(variant.name).or_insert(false) |= !accepted;
        }
        // A secret has no name for `jose`, so that it cannot be the wrong one.
        for variant in tokens.hostile.iter().filter(|hostile| tokens.secret.is_none() || !hostile.key_unknown) {
            let accepted = ask(minted, tokens, &keys, &variant.token, judge).await?;
            *hostile.entry(variant.name.clone()).or_insert(false) |= accepted;
        }
    }
    let library = &*minted.library;
    for (differing, known, does) in [(good, REFUSED_THERE, "refuses"), (hostile, ACCEPTED_THERE, "accepts")] {
        for (name, differs) in differing {
            let is_known = known.iter().any(|(what, libraries)| *what == name && libraries.contains(&library));
            let outcome = match (differs, is_known) {
                (true, false) => Err(format!("{library} {does} it, which is not known").into()),
                (false, true) => Err(format!("{library} no longer {does} it").into()),
                _ => Ok(()),
            };
            tally.check(&format!("{name}, shown to {library} itself"), outcome);
        }
    }
    Ok(())
}

async fn ask(minted: &Minted, by: &MintedTokens, keys: &Value, token: &str, judge: &mut Program) -> Result<bool> {
    let mut question = json!({
        "library": minted.library, "token": token, "alg": by.alg, "issuer": minted.issuer, "audience": minted.audience,
    });
    match &by.secret {
        Some(secret) => {
            question["secret"] = secret.clone().into();
            question["kid"] = by.kid.clone().into();
        }
        None => question["jwks"] = keys.clone(),
    }
    Ok(judge.ask::<Judgement>(&question).await?.ok)
}
