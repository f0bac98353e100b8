//! How much of what a remembered token takes is counted.

use countersign_claims::{Policy, UnixTime};
use countersign_token::{Algorithm, HeaderScratch, KeySet, SigningKey, UnverifiedToken};

#[test]
fn claims_that_are_read_take_not_much_more_than_is_counted() {
    let signer = SigningKey::generate(Algorithm::Es256).unwrap();
    let keys = KeySet::new([signer.verifying_key().unwrap()]);
    let objects = vec![serde_json::json!({ "": 0 }); 600];
    let raw = signer.sign(&serde_json::json!({ "exp": 4_000_000_000_u64, "x": objects })).unwrap();
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&raw, 8192, &mut scratch).unwrap();
    let payload = token.verify(keys.candidates(None, Algorithm::Es256).next().unwrap()).unwrap();
    let verified = Policy::new().judge(payload, UnixTime::from_secs(0)).unwrap();
    let counted = verified.remember().memory();
    let taken = allocation_counter::measure(|| drop(verified.claims::<serde_json::Value>())).bytes_current;
    assert!(taken <= 4 * counted as i64, "{taken} taken beside {counted} counted, of a token of {} bytes", raw.len());
}
