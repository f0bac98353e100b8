//! What is in the files.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode::Indifferent;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use countersign_token::{
    Algorithm, AlgorithmSet, JwkSet, KeySet, MAX_CANDIDATES, MAX_KEYS, Origin, SkippedKey, Unusable, VerifyingKey,
};

use super::files::{self, Found, Kind, Survey, fault};
use super::{Format, Local};
use crate::load::Document;

/// What a line begins with whose secret is written in base64.
const BASE64: &str = "base64:";

impl Local {
    /// What there is to read.
    pub(super) fn survey(&self) -> Survey {
        match self.format {
            Format::Directory(_) => files::survey_directory(&self.path),
            Format::Jwks | Format::Pem(_) | Format::Secrets(_) => files::survey_file(&self.path),
        }
    }

    /// The keys in what was found, all of them or none.
    pub(super) fn read(&self, all: &[Found]) -> Result<Document, String> {
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for found in all {
            let (more, unusable) = self.read_file(found)?;
            keys.extend(more);
            skipped.extend(unusable);
        }
        if all.is_empty() {
            return Err(fault(&self.path, "no key files in it"));
        }
        if keys.len() > MAX_KEYS {
            return Err(fault(&self.path, format_args!("more than {MAX_KEYS} keys in its files")));
        }
        let set = KeySet::new(keys);
        let keys = if self.unnamed_keys_match_any_kid { set.unnamed_keys_match_any_kid() } else { set };
        // Not to be kept elsewhere: it may have secrets in it, and is here when the next process starts.
        Ok(Document { keys, skipped, body: None })
    }

    fn read_file(&self, found: &Found) -> Result<Contents, String> {
        let check_access = |is_secret| if self.allow_access_by_others { Ok(()) } else { found.check_access(is_secret) };
        check_access(matches!(self.format, Format::Secrets(_)))?;
        let octets = files::read(found)?;
        let fault = |reason: String| fault(&found.path, reason);
        match (self.format, Kind::of(&found.path)) {
            (Format::Jwks, _) | (Format::Directory(_), Some(Kind::Jwks)) => {
                let contents = jwks(&octets).map_err(fault)?;
                check_access(has_secrets(&octets))?;
                Ok(contents)
            }
            (Format::Pem(algorithms), _) => {
                let keys = pem(&octets, algorithms).map_err(fault)?;
                Ok((self.named(keys).map_err(fault)?, Vec::new()))
            }
            (Format::Directory(algorithms), _) => {
                let key = named_pem(&octets, algorithms, &found.path).map_err(fault)?;
                Ok((vec![Arc::new(key)], Vec::new()))
            }
            (Format::Secrets(algorithm), _) => {
                let keys = secrets(&octets, algorithm).map_err(fault)?;
                Ok((self.named(keys).map_err(fault)?, Vec::new()))
            }
        }
    }

    fn named(&self, keys: Vec<VerifyingKey>) -> Result<Vec<Arc<VerifyingKey>>, String> {
        let name = |key: VerifyingKey| match &self.kid {
            Some(kid) => key.with_kid(kid.clone()),
            None => Ok(key),
        };
        keys.into_iter().map(|key| name(key).map(Arc::new).map_err(|error| error.to_string())).collect()
    }
}

/// Keys, and what stands among them that cannot be used.
type Contents = (Vec<Arc<VerifyingKey>>, Vec<SkippedKey>);

fn jwks(octets: &[u8]) -> Result<Contents, String> {
    let set = JwkSet::parse(octets, Origin::Local).map_err(|error| error.to_string())?;
    Ok((set.keys().to_vec(), set.skipped().to_vec()))
}

/// Whether there is anything in a key set that nobody should publish: a shared secret, or the private part of a key.
fn has_secrets(octets: &[u8]) -> bool {
    let is_secret = |key: &SkippedKey| matches!(key.reason, Unusable::Symmetric | Unusable::Private);
    JwkSet::parse(octets, Origin::Remote).is_ok_and(|set| set.skipped().iter().any(is_secret))
}

fn pem(octets: &[u8], algorithms: AlgorithmSet) -> Result<Vec<VerifyingKey>, String> {
    let keys = VerifyingKey::all_from_pem(octets, algorithms).map_err(|error| error.to_string())?;
    if keys.len() > MAX_CANDIDATES {
        return Err(format!("more than {MAX_CANDIDATES} keys without a name of their own: no more would be tried"));
    }
    Ok(keys)
}

/// The one key of a file that gives it its name.
fn named_pem(octets: &[u8], algorithms: AlgorithmSet, path: &Path) -> Result<VerifyingKey, String> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or("its name is not UTF-8")?;
    let keys = VerifyingKey::all_from_pem(octets, algorithms).map_err(|error| error.to_string())?;
    let [key] = <[VerifyingKey; 1]>::try_from(keys).map_err(|_| "more than one key, for one name")?;
    key.with_kid(name).map_err(|error| error.to_string())
}

/// Reasons name the line, and nothing of what is in it.
fn secrets(octets: &[u8], algorithm: Algorithm) -> Result<Vec<VerifyingKey>, String> {
    let text = str::from_utf8(octets).map_err(|_| format!("not UTF-8: write octets that are no text as {BASE64}…"))?;
    let mut keys = Vec::new();
    // `lines` takes CR LF for an end as well.
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let key = secret(line, algorithm).map_err(|reason| format!("line {}: {reason}", index + 1))?;
        keys.push(key);
        if keys.len() > MAX_CANDIDATES {
            return Err(format!("more than {MAX_CANDIDATES} secrets: no more would be tried"));
        }
    }
    if keys.is_empty() { Err("no secret in it".into()) } else { Ok(keys) }
}

fn secret(line: &str, algorithm: Algorithm) -> Result<VerifyingKey, String> {
    // A byte order mark, or what an editor shows as nothing, would be part of the secret, and nobody would see why it does not fit.
    if line.contains(|char: char| char == '\u{feff}' || (char.is_control() && char != '\t')) {
        return Err("a control character or a byte order mark".into());
    }
    let decoded;
    let octets = match line.strip_prefix(BASE64) {
        Some(encoded) => {
            decoded = base64(encoded).ok_or("malformed base64")?;
            decoded.as_slice()
        }
        None => line.as_bytes(),
    };
    VerifyingKey::from_secret(octets, algorithm).map_err(|error| error.to_string())
}

/// In the one alphabet or in the other.
fn base64(encoded: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(Indifferent);
    let decode = |alphabet: &Alphabet| GeneralPurpose::new(alphabet, CONFIG).decode(encoded).ok();
    decode(&STANDARD).or_else(|| decode(&URL_SAFE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    /// Whether the file's only key is that secret.
    fn is(file: &str, secret: &[u8]) -> bool {
        let expected = VerifyingKey::from_secret(secret, Algorithm::Hs256).unwrap();
        matches!(secrets(file.as_bytes(), Algorithm::Hs256).unwrap().as_slice(), [key] if key.is_same_as(&expected))
    }

    #[test]
    fn a_secret_is_its_line_as_it_stands_there() {
        let secret = SECRET.as_bytes();
        for file in [SECRET, &format!("{SECRET}\n"), &format!("\n \n{SECRET}\r\n\r\n\n")] {
            assert!(is(file, secret), "{file:?}");
        }
        for file in [format!(" {SECRET}"), format!("{SECRET} "), format!("{SECRET}\t")] {
            assert!(is(&file, file.as_bytes()) && !is(&file, secret), "{file:?}");
        }
        let umlauts = "ä".repeat(16);
        assert!(is(&umlauts, umlauts.as_bytes()), "thirty-two octets");
    }

    #[test]
    fn base64_is_either_alphabet_with_padding_or_without_and_nothing_in_between() {
        let octets = [0xfb; 32];
        let (standard, url) = (format!("{}+/s=", "+/v7".repeat(10)), format!("{}-_s", "-_v7".repeat(10)));
        for encoded in [&standard, standard.trim_end_matches('='), &url, &format!("{url}=")] {
            assert!(is(&format!("base64:{encoded}\n"), &octets), "{encoded}");
        }
        let mixed = standard.replacen('+', "-", 1);
        let stray_bits = url.replace("-_s", "-_t");
        for encoded in [&mixed, &stray_bits, &format!(" {url}"), &format!("{url} "), &url[1..], "", "="] {
            let error = secrets(format!("base64:{encoded}").as_bytes(), Algorithm::Hs256).unwrap_err();
            assert!(error == "line 1: malformed base64" || encoded.is_empty() && error.contains("short"), "{error}");
        }
    }

    #[test]
    fn secrets_that_cannot_be_meant_are_refused_with_the_line_and_without_the_secret() {
        let utf16: String = SECRET.chars().flat_map(|char| [char, '\0']).collect();
        for (file, expected) in [
            (String::new(), "no secret in it"),
            ("\n\r\n  \n".into(), "no secret in it"),
            (format!("{SECRET}\nhunter2"), "line 2: HMAC secret shorter than its hash"),
            (format!("\u{feff}{SECRET}"), "line 1: a control character or a byte order mark"),
            (utf16, "line 1: a control character or a byte order mark"),
            (format!("{SECRET}\n").repeat(5), "more than 4 secrets: no more would be tried"),
        ] {
            assert_eq!(secrets(file.as_bytes(), Algorithm::Hs256).unwrap_err(), expected);
        }
        assert!(secrets(&[0xff; 32], Algorithm::Hs256).unwrap_err().starts_with("not UTF-8"));
        assert!(
            secrets(SECRET.as_bytes(), Algorithm::Hs384).is_err(),
            "long enough for the one, too short for the other"
        );
        assert_eq!(secrets(format!("{SECRET}\n").repeat(4).as_bytes(), Algorithm::Hs256).map(|keys| keys.len()), Ok(4));
    }

    proptest! {
        #[test]
        fn never_panics_and_never_shows_what_is_in_the_file(
            octets in any::<Vec<u8>>(), word in "[a-z0-9]{24,31}", before in r"\PC{0,8}\n?", after in r"\n?\PC{0,8}",
        ) {
            let _ = (secrets(&octets, Algorithm::Hs512), pem(&octets, AlgorithmSet::ASYMMETRIC), jwks(&octets));
            for file in [format!("{before}{word}{after}"), format!("{before}base64:{word}{after}")] {
                if let Err(error) = secrets(file.as_bytes(), Algorithm::Hs512) {
                    prop_assert!(!error.contains(&word[..8]), "{error}");
                }
            }
        }
    }
}
