//! What is minted is what a verifier of access tokens accepts, and no longer than the ring can answer for.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign_claims::{Policy, UnixTime};
use countersign_issuer::by_hand::{ClockByHand, RingByHand, state};
use countersign_issuer::state::KeyState;
use countersign_issuer::{Clock as _, Mint, MintError, RingConfig, Signer, Slot};
use countersign_token::{Algorithm, SigningKey};
use countersign_verifier::Verifier;
use proptest::prelude::*;
use serde_json::{Map, Value};

const ISSUER: &str = "https://issuer.example";
const SLOTS: [(&str, Algorithm); 5] = [
    ("es256", Algorithm::Es256),
    ("es384", Algorithm::Es384),
    ("ed25519", Algorithm::Ed25519),
    ("rs256", Algorithm::Rs256),
    ("ml-dsa-44", Algorithm::MlDsa44),
];

static KEYS: LazyLock<Vec<Arc<SigningKey>>> = LazyLock::new(|| {
    let key = |(name, algorithm)| SigningKey::generate(algorithm).map(|key: SigningKey| key.with_kid(name));
    SLOTS.iter().map(|slot| Arc::new(key(*slot).expect("there is randomness"))).collect()
});

/// Names that mean something to a verifier, or cannot be set.
const TAKEN: [&str; 26] = [
    "iss",
    "iat",
    "nbf",
    "exp",
    "jti",
    "kid",
    "alg",
    "typ",
    "sub",
    "aud",
    "scope",
    "client_id",
    "cnf",
    "scp",
    "azp",
    "at_hash",
    "c_hash",
    "token_use",
    "events",
    "sid",
    "family",
    "tid",
    "nonce",
    "act",
    "may_act",
    "acr",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn further() -> impl Strategy<Value = Map<String, Value>> {
    let name = any::<String>().prop_filter("a free name", |name| !TAKEN.contains(&name.as_str()));
    proptest::collection::btree_map(name, value(), 0..6).prop_map(|members| members.into_iter().collect())
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("a name of somebody", |text| !text.is_empty())
}

fn scope() -> impl Strategy<Value = String> {
    "[!#-\\[\\]-~]{1,12}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_token_is_accepted_as_an_access_token_and_none_outlives_its_leave(
        slot in 0..SLOTS.len(),
        millis in 0..2_000_000_000_000_u64,
        (lifetime, clamps) in (1..10_000_u64, any::<bool>()),
        remove_in in prop::option::of(0..200_000_u64),
        (subject, client, audiences) in (text(), text(), proptest::collection::vec(text(), 1..4)),
        scopes in proptest::collection::vec(scope(), 0..4),
        further in further(),
        later in 0..30_000_u64,
    ) {
        let (name, algorithm) = SLOTS[slot];
        let clock = ClockByHand::new(UnixTime::from_secs(0).saturating_add(Duration::from_millis(millis)));
        let config = RingConfig::new(SLOTS.map(|(name, algorithm)| Slot::new(name, algorithm)));
        let ring = RingByHand::new(ISSUER, config.clone(), clock.clone());
        let keys = SLOTS.iter().zip(&*KEYS).map(|((name, _), key)| (*name, KeyState::Active, &**key));
        let mut shown = state(&config, clock.now().wall, keys).unwrap();
        let remove_at = remove_in.map(|millis| clock.now().wall.saturating_add(Duration::from_millis(millis)));
        shown.keys.get_mut(name).unwrap().remove_at = remove_at;
        let signers = KEYS.iter().map(|key| (key.kid().unwrap().to_owned(), Arc::clone(key) as Arc<dyn Signer>));
        ring.show(shown, signers);
        clock.advance(Duration::from_millis(later));
        let now = clock.now().wall;

        let mut mint = Mint::new(Duration::from_secs(lifetime)).subject(&subject).client_id(&client).claims(&further);
        mint = audiences.iter().fold(mint, |mint, audience| mint.audience(audience));
        mint = scopes.iter().fold(mint, |mint, scope| mint.scope(scope));
        mint = if clamps { mint.or_shorter() } else { mint };

        // I5: L after now, and W and ε, 90 s, before its key goes.
        let latest = now.saturating_add(Duration::from_secs(3_600));
        let latest = remove_at.map_or(latest, |at| latest.min(at.saturating_sub(Duration::from_secs(90))));
        let most = latest.as_secs() - now.as_secs();
        let minted = match ring.minter().max_payload_bytes(64 * 1_024).mint(name, &mint) {
            Ok(minted) => minted,
            Err(MintError::NotSigning(_)) => {
                prop_assert!(most < 1, "{most}");
                return Ok(());
            }
            Err(MintError::LifetimeTooLong { most: said }) => {
                prop_assert!(!clamps && i64::try_from(lifetime).unwrap() > most);
                prop_assert_eq!(i64::try_from(said.as_secs()).unwrap(), most);
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        prop_assert!(minted.expires_at <= latest && minted.expires_at > now && minted.issued_at <= now);

        let audience = audiences.last().unwrap().as_str();
        let policy = Policy::new().issuer(ISSUER).audience(audience).access_token_profile().leeway(Duration::ZERO);
        let verifier = Verifier::new(ring.keys(), policy).algorithms(algorithm).max_token_bytes(128 * 1_024).require_kid();
        let verified = verifier.verify(&minted.token, now).unwrap();
        prop_assert_eq!(verified.subject(), Some(subject.as_str()));
        prop_assert_eq!(verified.scopes().collect::<Vec<_>>(), scopes);
        let payload = verified.claims::<Map<String, Value>>().unwrap();
        for (name, value) in &further {
            prop_assert_eq!(&payload[name], value);
        }
        prop_assert!(verifier.verify(&minted.token, minted.expires_at).is_err());
    }
}
