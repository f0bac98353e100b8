//! Headers in every spelling and of every length say what `serde_json` reads, known or not.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_token::{HeaderScratch, KnownHeader, UnreadToken, UnverifiedToken};
use proptest::prelude::*;
use serde_json::Value;

fn spelt() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "\\u0061",
        "\\\"",
        "\\\\",
        "\\/",
        "é",
        "\\ud834\\udd1e",
        "[",
        "1",
        "\\ud800",
        "\\u0000",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    prop::collection::vec(part, 0..9).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn name() -> impl Strategy<Value = String> {
    (prop::sample::select(vec!["kid", "typ", "cty", "x", "y", "x5c", "crit", "zip", "b64"]), 0..6).prop_map(
        |(name, how)| match how {
            0 => format!("\"{}\"", name.chars().map(|c| format!("\\u{:04x}", c as u32)).collect::<String>()),
            _ => format!("\"{name}\""),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn headers_are_what_serde_json_reads(
        members in prop::collection::vec((name(), prop_oneof![5 => spelt(), 1 => prop::sample::select(vec!["1", "true", "null", "[]", "{\"a\":1,\"\\u0061\":1}"]).prop_map(str::to_owned)]), 0..5),
        alg in prop::sample::select(vec!["\"ES256\"", "\"\\u0045S256\"", "\"none\""]), filler in prop::sample::select(vec![0, 100, 900, 4000]),
    ) {
        let members: String = members.iter().map(|(name, value)| format!(",{name}:{value}")).collect();
        let json = format!("{{\"alg\":{alg}{members},\"filler\":\"{}\"}}", "f".repeat(filler));
        let text = format!("{}.e30.AA", BASE64_URL_SAFE_NO_PAD.encode(&json));
        let mut scratch = HeaderScratch::new();
        let Ok(token) = UnverifiedToken::parse(&text, 8192, &mut scratch) else { return Ok(()) };
        prop_assert_eq!(token.encoded_header(), text.split('.').next().unwrap());
        let header = token.header();
        let read: Value = match serde_json::from_str(&json) {
            Ok(read) => read,
            Err(_) => { prop_assert!(json.contains("ud800"), "{}", json); return Ok(()) }
        };
        for (ours, name) in [(header.kid(), "kid"), (header.typ(), "typ"), (header.cty(), "cty")] {
            prop_assert_eq!(ours, read.get(name).map(|value| value.as_str().unwrap_or("no text")), "{}", json);
        }
        prop_assert!(read.get("crit").is_none() && read.get("zip").is_none() && read.get("b64").is_none_or(|b64| b64 == true), "{}", json);
        let known = KnownHeader::of(&token);
        let again = UnreadToken::split(&text, 8192).unwrap().recognise(&known).ok().unwrap();
        prop_assert_eq!(again.header(), header);
        let other = text.replacen('J', "K", 1);
        prop_assert!(UnreadToken::split(&other, 8192).unwrap().recognise(&known).is_err());
    }

    #[test]
    fn nothing_panics(text in "[.A-Za-z0-9_=é-]{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut scratch = HeaderScratch::new();
        for text in [text, format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes))] {
            if let Ok(token) = UnverifiedToken::parse(&text, 8192, &mut scratch) {
                let _ = (token.encoded_header(), token.check_encoding(), token.with_unverified_issuer(|_| ()));
            }
        }
    }
}
