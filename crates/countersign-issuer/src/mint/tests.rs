use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::by_hand::{ClockByHand, RingByHand, state};
use crate::config::{RingConfig, Slot};
use crate::signer::Signer;
use crate::state::KeyState;
use countersign_token::{HeaderScratch, RsaBits, SigningKey, UnverifiedToken};

const ISSUER: &str = "https://issuer.example";
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const SLOT: &str = "es256";

struct Bench {
    ring: RingByHand,
    clock: ClockByHand,
    key: Arc<SigningKey>,
}

impl Bench {
    fn new() -> Self {
        Self::of(Algorithm::Es256)
    }

    fn of(algorithm: Algorithm) -> Self {
        let key = Arc::new(SigningKey::generate(algorithm).unwrap().with_kid("k1"));
        let (ring, clock) = ring([Slot::new(SLOT, algorithm)]);
        ring.show_keys([(SLOT, KeyState::Active, &key)]).unwrap();
        Self { ring, clock, key }
    }

    fn mint(&self, mint: &Mint) -> Result<Minted, MintError> {
        self.ring.minter().mint(SLOT, mint)
    }

    fn fault(&self, mint: &Mint) -> MintError {
        self.mint(mint).unwrap_err()
    }
}

fn ring(slots: impl IntoIterator<Item = Slot>) -> (RingByHand, ClockByHand) {
    let clock = ClockByHand::new(NOW);
    (RingByHand::new(ISSUER, RingConfig::new(slots), clock.clone()), clock)
}

fn minute() -> Mint {
    Mint::new(Duration::from_secs(60))
}

fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| BASE64URL.decode(part).unwrap());
    let mut part = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
    (part(), part())
}

fn claims(minted: &Minted) -> Value {
    parts(&minted.token).1
}

fn is_signed_by(minted: &Minted, key: &SigningKey) -> bool {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&minted.token, usize::MAX, &mut scratch).unwrap();
    token.verify(&Arc::new(key.verifying_key().unwrap())).is_ok()
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[test]
fn a_token_says_what_its_issuer_and_its_caller_say_and_its_header_nothing_else() {
    let bench = Bench::new();
    let mint = minute()
        .subject("ada \"the\" first")
        .audience("orders")
        .client_id("web")
        .scope("orders:read")
        .scope("orders:write profile")
        .claims(&json!({ "tenant": "acme", "roles": ["clerk"], "level": 3.5 }))
        .claim("département", &"Ain");
    let minted = bench.mint(&mint).unwrap();
    let (header, payload) = parts(&minted.token);
    assert_eq!(header, json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }));
    assert_eq!(
        payload,
        json!({
            "iss": ISSUER, "iat": 1_800_000_000, "exp": 1_800_000_060, "jti": minted.jti,
            "sub": "ada \"the\" first", "aud": "orders", "client_id": "web", "scope": "orders:read orders:write profile",
            "tenant": "acme", "roles": ["clerk"], "level": 3.5, "département": "Ain",
        })
    );
    assert!(is_signed_by(&minted, &bench.key));
    assert_eq!((minted.kid.as_str(), minted.algorithm), ("k1", Algorithm::Es256));
    assert_eq!((minted.issued_at, minted.expires_at), (NOW, UnixTime::from_secs(1_800_000_060)));
}

#[test]
fn claims_may_be_of_a_type_of_the_callers_or_there_may_be_none() {
    #[derive(serde::Serialize)]
    struct Mine<'a> {
        tenant: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'a str>,
    }
    let bench = Bench::new();
    let minted = bench.mint(&minute().claims(&Mine { tenant: "acme", note: None })).unwrap();
    assert_eq!(claims(&minted)["tenant"], "acme");
    let bare = bench.mint(&minute().claims(&json!({})).claims(&raw(" { } "))).unwrap();
    let names: Vec<_> = claims(&bare).as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["exp", "iat", "iss", "jti"]);
    let after_nothing = bench.mint(&minute().claims(&json!({})).claim("a", &1)).unwrap();
    assert_eq!(claims(&after_nothing)["a"], 1);
}

#[test]
fn each_token_has_a_name_of_its_own_of_128_random_bits() {
    let bench = Bench::new();
    let mint = minute();
    let names: std::collections::HashSet<_> = (0..1_000).map(|_| bench.mint(&mint).unwrap().jti).collect();
    assert_eq!(names.len(), 1_000);
    assert!(names.iter().all(|jti| BASE64URL.decode(jti).unwrap().len() == JTI_BYTES));
}

#[test]
fn every_algorithm_mints_what_its_key_verifies() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
        let bench = Bench::of(algorithm);
        let minted = bench.mint(&minute().subject("ada")).unwrap();
        assert!(is_signed_by(&minted, &bench.key), "{algorithm}");
        assert_eq!(minted.algorithm, algorithm);
        assert_eq!(parts(&minted.token).0["alg"], algorithm.name());
    }
    for bits in [RsaBits::B3072, RsaBits::B4096] {
        let key = Arc::new(SigningKey::generate_rsa(Algorithm::Ps384, bits).unwrap().with_kid("k1"));
        let (ring, _) = ring([Slot::rsa(SLOT, Algorithm::Ps384, bits)]);
        ring.show_keys([(SLOT, KeyState::Active, &key)]).unwrap();
        assert!(is_signed_by(&ring.minter().mint(SLOT, &minute()).unwrap(), &key));
    }
}

#[test]
fn times_are_whole_seconds_and_never_in_the_future() {
    let bench = Bench::new();
    bench.clock.advance(Duration::from_millis(999));
    let mint = Mint::new(Duration::from_millis(60_900)).not_before(Duration::from_millis(5_999));
    let payload = claims(&bench.mint(&mint).unwrap());
    assert_eq!(
        (&payload["iat"], &payload["nbf"], &payload["exp"]),
        (&json!(1_800_000_000), &json!(1_800_000_005), &json!(1_800_000_060))
    );
}

#[test]
fn a_token_that_would_expire_before_it_is_valid_is_refused() {
    let bench = Bench::new();
    assert_eq!(claims(&bench.mint(&minute().not_before(Duration::ZERO)).unwrap())["nbf"], 1_800_000_000);
    assert!(bench.mint(&minute().not_before(Duration::from_secs(59))).is_ok());
    for delay in [Duration::from_secs(60), Duration::MAX] {
        assert_eq!(bench.fault(&minute().not_before(delay)), MintError::NeverValid);
    }
}

#[test]
fn i5_a_longer_life_than_the_slots_is_refused_with_the_longest_or_cut_short() {
    let bench = Bench::new();
    let longest = Duration::from_secs(3_600);
    assert!(bench.mint(&Mint::new(longest)).is_ok());
    for lifetime in [longest + Duration::from_secs(1), Duration::MAX] {
        let error = bench.fault(&Mint::new(lifetime));
        assert_eq!(error, MintError::LifetimeTooLong { most: longest });
        assert_eq!(error.to_string(), "a token may live for 3600 s at most");
        let minted = bench.mint(&Mint::new(lifetime).or_shorter()).unwrap();
        assert_eq!(minted.expires_at, NOW.saturating_add(longest));
    }
    // What is shorter stays.
    assert_eq!(bench.mint(&minute().or_shorter()).unwrap().expires_at, UnixTime::from_secs(1_800_000_060));
}

#[test]
fn i5_no_token_outlives_the_removal_of_its_key() {
    let bench = Bench::new();
    let mut ring =
        state(&RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]), NOW, [(SLOT, KeyState::Active, &*bench.key)])
            .unwrap();
    // W and ε are 90 s together, so 10.5 s are left, of which 10 are whole.
    ring.keys.get_mut("k1").unwrap().remove_at = Some(NOW.saturating_add(Duration::from_millis(100_500)));
    let signer: Arc<dyn Signer> = bench.key.clone();
    bench.ring.show(ring.clone(), [("k1".to_owned(), signer.clone())]);
    assert_eq!(bench.fault(&minute()), MintError::LifetimeTooLong { most: Duration::from_secs(10) });
    assert_eq!(bench.mint(&minute().or_shorter()).unwrap().expires_at, UnixTime::from_secs(1_800_000_010));
    // A token that has less than a second would be no token.
    bench.clock.advance(Duration::from_secs(10));
    bench.ring.show(ring.clone(), [("k1".to_owned(), signer.clone())]);
    assert_eq!(bench.fault(&minute().or_shorter()), MintError::NotSigning(NotSigning::NoTimeLeft));
    bench.clock.advance(Duration::from_secs(10));
    bench.ring.show(ring, [("k1".to_owned(), signer)]);
    assert_eq!(bench.fault(&minute().or_shorter()), MintError::NotSigning(NotSigning::NoTimeLeft));
}

#[test]
fn a_life_of_less_than_a_second_is_refused() {
    let bench = Bench::new();
    for lifetime in [Duration::ZERO, Duration::from_millis(999)] {
        assert_eq!(bench.fault(&Mint::new(lifetime).or_shorter()), MintError::LifetimeTooShort);
    }
    assert!(bench.mint(&Mint::new(Duration::from_secs(1))).is_ok());
}

#[test]
fn what_the_issuer_owns_and_what_has_a_setter_cannot_be_set_otherwise_however_it_is_written() {
    let bench = Bench::new();
    for name in ["iss", "iat", "nbf", "exp", "jti", "kid", "alg", "typ", "sub", "aud", "scope", "client_id", "cnf"] {
        let escaped = format!("{{\"\\u{:04x}{}\":1}}", name.as_bytes()[0], &name[1..]);
        for mint in [
            minute().claim(name, &"hidden"),
            minute().claims(&json!({ "a": 1, name: "hidden" })),
            minute().claims(&raw(&escaped)),
            minute().claims(&json!({ "a": 1 })).claims(&std::collections::HashMap::from([(name, Value::Null)])),
        ] {
            let error = bench.fault(&mint);
            let [shown] =
                ["iss", "iat", "nbf", "exp", "jti", "kid", "alg", "typ", "sub", "aud", "scope", "client_id", "cnf"]
                    .iter()
                    .filter(|known| **known == name)
                    .collect::<Vec<_>>()[..]
            else {
                panic!("{name}")
            };
            assert_eq!(error, MintError::ClaimNotPermitted(shown));
            assert!(!error.to_string().contains("hidden"));
        }
    }
    // Names are compared as they are, and inside of a claim everything goes.
    let minted = bench.mint(&minute().claims(&json!({ "ISS": 1, "act": { "sub": "svc", "iss": "x" } }))).unwrap();
    assert_eq!(claims(&minted)["act"]["sub"], "svc");
}

#[test]
fn nothing_is_there_twice_at_any_depth() {
    let bench = Bench::new();
    for mint in [
        minute().claims(&raw(r#"{"a":1,"a":2}"#)),
        minute().claims(&raw(r#"{"a":1,"\u0061":2}"#)),
        minute().claims(&raw(r#"{"a":[{"b":1,"b":1}]}"#)),
        minute().claim("a", &raw(r#"{"b":1,"b":1}"#)),
        minute().claim("a", &1).subject("ada").claim("b", &1).claim("a", &1),
        minute().subject("ada").claim("a", &1).claims(&json!({ "b": 1, "a": 2 })),
    ] {
        assert_eq!(bench.fault(&mint), MintError::DuplicateClaim(None));
    }
    let cnf = json!({ "jkt": "x" });
    for (mint, name) in [
        (minute().subject("ada").subject("ada"), "sub"),
        (minute().client_id("a").client_id("b"), "client_id"),
        (minute().confirmation(&cnf).confirmation(&cnf), "cnf"),
    ] {
        assert_eq!(bench.fault(&mint), MintError::DuplicateClaim(Some(name)));
    }
    // Different calls with different names.
    let payload =
        claims(&bench.mint(&minute().claim("a", &1).subject("ada").claim("b", &2).claims(&json!({ "c": 3 }))).unwrap());
    assert_eq!((&payload["a"], &payload["b"], &payload["c"]), (&json!(1), &json!(2), &json!(3)));
}

#[test]
fn claims_that_are_no_object_are_refused() {
    struct Fails;
    impl serde::Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("the secret is 42"))
        }
    }
    let bench = Bench::new();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for mint in [
        minute().claims(&json!([1])),
        minute().claims(&json!("{}")),
        minute().claims(&()),
        minute().claims(&7),
        minute().claims(&Fails),
        minute().claims(&serde_json::from_str::<Box<RawValue>>(&deep).unwrap_or_else(|_| raw("[]"))),
    ] {
        assert_eq!(bench.fault(&mint), MintError::NotAnObject);
    }
}

#[test]
fn a_token_is_bound_to_a_key_by_its_setter_only() {
    let bench = Bench::new();
    let minted = bench.mint(&minute().confirmation(&json!({ "jkt": "thumb" }))).unwrap();
    assert_eq!(claims(&minted)["cnf"], json!({ "jkt": "thumb" }));
    for odd in [json!("thumb"), json!({}), json!([1]), Value::Null] {
        assert_eq!(bench.fault(&minute().confirmation(&odd)), MintError::Malformed("cnf"));
    }
    assert_eq!(bench.fault(&minute().confirmation(&raw(r#"{"jkt":1,"jkt":2}"#))), MintError::Malformed("cnf"));
}

#[test]
fn malformed_values_are_refused_by_the_name_of_their_claim() {
    let bench = Bench::new();
    for (mint, name) in [
        (minute().subject(""), "sub"),
        (minute().client_id(""), "client_id"),
        (minute().audience(""), "aud"),
        (minute().audience("a").audience(""), "aud"),
        (minute().scope(""), "scope"),
        (minute().scope(" a"), "scope"),
        (minute().scope("a  b"), "scope"),
        (minute().scope("a\"b"), "scope"),
        (minute().scope("a\\b"), "scope"),
        (minute().scope("a\tb"), "scope"),
        (minute().scope("é"), "scope"),
        (minute().typ(""), "typ"),
        (minute().typ("a b"), "typ"),
        (minute().typ("JWT\",\"kid\":\"mine"), "typ"),
        (minute().typ("é"), "typ"),
        (minute().typ("t".repeat(MAX_TYPE_BYTES + 1)), "typ"),
    ] {
        let error = bench.fault(&mint);
        assert_eq!((error, error.code()), (MintError::Malformed(name), "invalid_request"));
    }
    // The first of two faults counts, and nothing comes after it.
    assert_eq!(bench.fault(&minute().subject("").typ("").subject("ada")), MintError::Malformed("sub"));
}

#[test]
fn another_type_stands_in_the_header() {
    let bench = Bench::new();
    for typ in ["JWT", "client-authentication+jwt", "application/logout+jwt", &"t".repeat(MAX_TYPE_BYTES)] {
        let minted = bench.mint(&minute().typ(typ)).unwrap();
        assert_eq!(parts(&minted.token).0, json!({ "alg": "ES256", "kid": "k1", "typ": typ }));
        assert!(is_signed_by(&minted, &bench.key));
    }
}

#[test]
fn several_audiences_are_an_array_and_one_is_not() {
    let bench = Bench::new();
    assert_eq!(claims(&bench.mint(&minute().audience("a\"b")).unwrap())["aud"], "a\"b");
    let both = minute().audience("a").subject("ada").audience("b");
    assert_eq!(claims(&bench.mint(&both).unwrap())["aud"], json!(["a", "b"]));
}

#[test]
fn a_payload_has_so_many_bytes_and_no_more() {
    let bench = Bench::new();
    let payload_bytes = |minted: &Minted| BASE64URL.decode(minted.token.split('.').nth(1).unwrap()).unwrap().len();
    let of_size = |size: usize| minute().claim("a", &"x".repeat(size));
    let room = DEFAULT_MAX_PAYLOAD_BYTES - payload_bytes(&bench.mint(&of_size(0)).unwrap());
    assert_eq!(payload_bytes(&bench.mint(&of_size(room)).unwrap()), DEFAULT_MAX_PAYLOAD_BYTES);
    let error = bench.fault(&of_size(room + 1));
    assert_eq!((error, error.code()), (MintError::PayloadTooLarge { most: 4_096 }, "payload_too_large"));
    let minter = bench.ring.minter().max_payload_bytes(room + 4_096);
    assert!(minter.mint(SLOT, &of_size(room + 1)).is_ok());
    // Whatever a minter allows, more is not even held.
    let minter = bench.ring.minter().max_payload_bytes(usize::MAX);
    let endless = || std::iter::repeat_n("x", MAX_CLAIMS_BYTES).collect::<Vec<_>>();
    for mint in [
        minute().claim("a", &endless()),
        minute().subject(&"x".repeat(MAX_CLAIMS_BYTES)),
        endless().into_iter().fold(minute(), Mint::audience),
        endless().into_iter().fold(minute(), Mint::scope),
    ] {
        assert_eq!(minter.mint(SLOT, &mint), Err(MintError::PayloadTooLarge { most: MAX_CLAIMS_BYTES }));
    }
}

#[test]
fn i3_nobody_mints_without_the_leave_of_a_young_view_and_a_sound_clock() {
    let bench = Bench::new();
    let reason = |bench: &Bench| match bench.fault(&minute()) {
        MintError::NotSigning(reason) => reason,
        other => panic!("{other:?}"),
    };
    bench.clock.advance(Duration::from_secs(30));
    assert!(bench.mint(&minute()).is_ok());
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(reason(&bench), NotSigning::ViewTooOld);
    bench.ring.show_keys([(SLOT, KeyState::Active, &bench.key)]).unwrap();
    assert!(bench.mint(&minute()).is_ok());
    bench.clock.set(NOW);
    assert_eq!(reason(&bench), NotSigning::ClockUnsound);
    let (empty, _) = ring([Slot::new(SLOT, Algorithm::Es256)]);
    assert_eq!(empty.minter().mint(SLOT, &minute()), Err(MintError::NotSigning(NotSigning::NoView)));
}

#[test]
fn a_slot_that_is_not_there_or_has_no_key_that_signs_does_not_mint() {
    let bench = Bench::new();
    let no_slot = bench.ring.minter().mint("rs256", &minute()).unwrap_err();
    assert_eq!(
        (no_slot, no_slot.code(), no_slot.is_temporary()),
        (MintError::NotSigning(NotSigning::NoSuchSlot), "unknown_slot", false)
    );
    for waits in [KeyState::Announced, KeyState::Standby, KeyState::Retiring, KeyState::Revoked] {
        bench.ring.show_keys([(SLOT, waits, &bench.key)]).unwrap();
        let error = bench.fault(&minute());
        assert_eq!(
            (error, error.code(), error.is_temporary()),
            (MintError::NotSigning(NotSigning::Halted), "key_unavailable", true),
            "{waits:?}"
        );
    }
}

#[test]
fn only_the_active_key_signs_whichever_others_there_are() {
    let (ring, _) = ring([Slot::new(SLOT, Algorithm::Es256), Slot::new("ed", Algorithm::Ed25519)]);
    let key = |kid: &str| Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid));
    let (old, active, next) = (key("old"), key("active"), key("next"));
    let edwards = Arc::new(SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("edwards"));
    ring.show_keys([
        (SLOT, KeyState::Retiring, &old),
        (SLOT, KeyState::Active, &active),
        (SLOT, KeyState::Standby, &next),
        ("ed", KeyState::Active, &edwards),
    ])
    .unwrap();
    let minted = ring.minter().mint(SLOT, &minute()).unwrap();
    assert!(minted.kid == "active" && is_signed_by(&minted, &active));
    let minted = ring.minter().mint("ed", &minute()).unwrap();
    assert!(minted.kid == "edwards" && is_signed_by(&minted, &edwards));
}

/// Signs as it is told to.
struct Odd {
    algorithm: Algorithm,
    answer: Result<Vec<u8>, SignError>,
}

impl Signer for Odd {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
        self.answer.clone()
    }
}

fn mint_by(signer: Option<Odd>) -> Result<Minted, MintError> {
    let bench = Bench::new();
    let config = RingConfig::new([Slot::new(SLOT, Algorithm::Es256)]);
    let ring = state(&config, NOW, [(SLOT, KeyState::Active, &*bench.key)]).unwrap();
    let signer = signer.map(|odd| ("k1".to_owned(), Arc::new(odd) as Arc<dyn Signer>));
    bench.ring.show(ring, signer);
    bench.mint(&minute())
}

#[test]
fn a_signer_that_is_not_there_or_of_another_algorithm_is_no_signer() {
    assert_eq!(mint_by(None), Err(MintError::NotSigning(NotSigning::KeyUnavailable)));
    for algorithm in [Algorithm::Es384, Algorithm::Rs256, Algorithm::Hs256, Algorithm::Ed25519] {
        let odd = Odd { algorithm, answer: Ok(vec![1; 64]) };
        assert_eq!(mint_by(Some(odd)), Err(MintError::NotSigning(NotSigning::KeyUnavailable)), "{algorithm}");
    }
}

#[test]
fn a_signer_that_fails_or_answers_in_another_form_makes_no_token() {
    let odd = |answer| Some(Odd { algorithm: Algorithm::Es256, answer });
    assert!(mint_by(odd(Ok(vec![1; 64]))).is_ok());
    let error = mint_by(odd(Err(SignError::Crypto))).unwrap_err();
    assert_eq!(
        (error, error.code(), error.is_temporary()),
        (MintError::Sign(SignError::Crypto), "signing_failed", true)
    );
    for bytes in [0, 63, 65, 70, 72] {
        assert_eq!(mint_by(odd(Ok(vec![1; bytes]))), Err(MintError::Sign(SignError::Crypto)));
    }
}

#[test]
fn the_name_of_an_adopted_key_is_written_as_json() {
    let key = Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().with_kid("a\"b\\ü\n"));
    let (ring, _) = ring([Slot::new(SLOT, Algorithm::Es256)]);
    ring.show_keys([(SLOT, KeyState::Active, &key)]).unwrap();
    let minted = ring.minter().mint(SLOT, &minute()).unwrap();
    assert_eq!(parts(&minted.token).0["kid"], "a\"b\\ü\n");
    assert!(is_signed_by(&minted, &key));
}

#[test]
fn no_debug_output_has_a_token_or_a_claim() {
    let bench = Bench::new();
    let mint = minute().subject("secret").claim("tenant", &"secret");
    let minted = bench.mint(&mint).unwrap();
    let shown = format!("{minted:?} {mint:?} {:?} {:?}", bench.ring.minter(), bench.ring);
    assert!(!shown.contains("secret"), "{shown}");
    for part in minted.token.split('.') {
        assert!(!shown.contains(part), "{shown}");
    }
}

/// What `kid` says and what has signed come from one snapshot.
#[test]
fn each_token_is_signed_by_the_key_that_it_names_while_keys_change() {
    let keys: Vec<_> =
        (0..4).map(|at| Arc::new(SigningKey::generate(Algorithm::Es256).unwrap().with_kid(format!("k{at}")))).collect();
    let (ring, _) = ring([Slot::new(SLOT, Algorithm::Es256)]);
    ring.show_keys([(SLOT, KeyState::Active, &keys[0])]).unwrap();
    let seen = std::thread::scope(|scope| {
        let minting = [(); 2].map(|()| {
            let (minter, keys) = (ring.minter(), &keys);
            scope.spawn(move || {
                let mut seen = std::collections::BTreeSet::new();
                while seen.len() < keys.len() {
                    let minted = minter.mint(SLOT, &minute()).unwrap();
                    let key = keys.iter().find(|key| key.kid() == Some(&*minted.kid)).unwrap();
                    assert!(is_signed_by(&minted, key));
                    seen.insert(minted.kid);
                }
                seen.len()
            })
        });
        let mut turn = 0;
        while !minting.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            turn += 1;
            ring.show_keys([(SLOT, KeyState::Active, &keys[turn % keys.len()])]).unwrap();
        }
        minting.map(|minting| minting.join().unwrap())
    });
    assert_eq!(seen, [4, 4]);
}

#[test]
fn a_minter_goes_to_every_worker() {
    fn is_shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
    is_shareable(&Bench::new().ring.minter());
}

#[test]
fn a_token_that_would_be_too_long_is_not_signed_and_its_size_is_told() {
    for (algorithm, typ) in [(Algorithm::Es256, None), (Algorithm::Es384, Some("x+jwt")), (Algorithm::Rs256, Some("y"))]
    {
        let bench = Bench::of(algorithm);
        let mint = || typ.map_or(minute(), |typ| minute().typ(typ)).subject("ada");
        let size = bench.mint(&mint()).unwrap().token.len();
        assert_eq!(bench.mint(&mint().max_token_bytes(size)).unwrap().token.len(), size);
        let error = bench.fault(&mint().max_token_bytes(size - 1));
        assert_eq!((error, error.code()), (MintError::TokenTooLarge { size, most: size - 1 }, "payload_too_large"));
    }
}
