use countersign_claims::UnixTime;
use countersign_token::{Algorithm, RsaBits, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::store::MAX_SEALED_BYTES;

const IDENTITY: KeyIdentity<'static> = KeyIdentity {
    issuer: "https://issuer.example",
    kid: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    algorithm: Algorithm::Es256,
    purpose: Purpose::Signing,
    created_at: UnixTime::from_secs(1_800_000_000),
};

/// The magic, the format and the name of the key.
const NAMED_BYTES: usize = 5 + 1 + KekId::BYTES;

fn kek(seed: u8) -> Kek {
    Kek::parse(&std::array::from_fn::<u8, KEK_BYTES, _>(|at| seed ^ at as u8 ^ 0x80)).unwrap()
}

fn ring(seeds: &[u8]) -> KekRing {
    KekRing::new(seeds.iter().copied().map(kek)).unwrap()
}

fn der(bytes: &[u8]) -> PrivateDer {
    PrivateDer::new(bytes.to_vec())
}

/// Without what was opened, which cannot be shown.
fn error(ring: &KekRing, identity: &KeyIdentity<'_>, sealed: &[u8]) -> Option<SealError> {
    ring.open(identity, sealed).err()
}

#[test]
fn a_key_of_every_kind_is_sealed_opened_and_signs() {
    let ring = ring(&[1]);
    let rsa = |bits| SigningKey::generate_rsa_exportable(Algorithm::Rs256, bits).unwrap();
    let mut keys: Vec<_> = [
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Ed25519,
        Algorithm::MlDsa44,
        Algorithm::MlDsa65,
        Algorithm::MlDsa87,
    ]
    .map(|algorithm| SigningKey::generate_exportable(algorithm).unwrap())
    .into();
    keys.extend([RsaBits::B2048, RsaBits::B3072, RsaBits::B4096].map(rsa));
    for (key, der) in keys {
        let algorithm = key.algorithm();
        let identity = KeyIdentity { algorithm, ..IDENTITY };
        let sealed = ring.seal(&identity, &der).unwrap();
        assert!(sealed.len() <= MAX_SEALED_BYTES / 2, "{algorithm}: {} bytes", sealed.len());
        assert!(!sealed.windows(16).any(|window| der.as_bytes().windows(16).any(|secret| secret == window)));
        let opened = ring.open(&identity, &sealed).unwrap();
        let opened = SigningKey::from_der(opened.as_bytes(), algorithm).unwrap();
        assert!(opened.verifying_key().unwrap().is_same_as(&key.verifying_key().unwrap()), "{algorithm}");
    }
}

#[test]
fn what_is_sealed_twice_is_never_the_same() {
    let ring = ring(&[1]);
    let (a, b) = (ring.seal(&IDENTITY, &der(b"key")).unwrap(), ring.seal(&IDENTITY, &der(b"key")).unwrap());
    // Neither nonces, nor wrapped keys, nor text: nothing behind the name of the key.
    assert_eq!(a[..NAMED_BYTES], b[..NAMED_BYTES]);
    assert!(!a[NAMED_BYTES..].windows(8).any(|part| b[NAMED_BYTES..].windows(8).any(|other| part == other)));
}

#[test]
fn what_was_sealed_for_one_key_opens_for_no_other() {
    let ring = ring(&[1]);
    let sealed = ring.seal(&IDENTITY, &der(b"key")).unwrap();
    for other in [
        KeyIdentity { issuer: "https://other.example", ..IDENTITY },
        KeyIdentity { issuer: "", ..IDENTITY },
        KeyIdentity { kid: "other", ..IDENTITY },
        KeyIdentity { algorithm: Algorithm::Es384, ..IDENTITY },
        KeyIdentity { created_at: UnixTime::from_secs(1_800_000_001), ..IDENTITY },
    ] {
        assert_eq!(error(&ring, &other, &sealed), Some(SealError::Undecryptable), "{other:?}");
        assert_eq!(ring.rewrap(&other, &sealed), Err(SealError::Undecryptable), "{other:?}");
    }
    // Where one part ends and the next begins is part of the identity.
    let (a, b) =
        (KeyIdentity { issuer: "ab", kid: "c", ..IDENTITY }, KeyIdentity { issuer: "a", kid: "bc", ..IDENTITY });
    assert_eq!(error(&ring, &b, &ring.seal(&a, &der(b"key")).unwrap()), Some(SealError::Undecryptable));
}

#[test]
fn parts_of_two_sealed_keys_make_no_third() {
    let ring = ring(&[1]);
    let (a, b) = (ring.seal(&IDENTITY, &der(b"one")).unwrap(), ring.seal(&IDENTITY, &der(b"two")).unwrap());
    for cut in NAMED_BYTES + 1..a.len() {
        let mixed = [&a[..cut], &b[cut..]].concat();
        assert_eq!(error(&ring, &IDENTITY, &mixed), Some(SealError::Undecryptable), "{cut}");
    }
}

#[test]
fn a_ring_opens_what_any_of_its_keys_has_sealed_and_seals_with_the_first() {
    let old = ring(&[1]).seal(&IDENTITY, &der(b"key")).unwrap();
    let both = ring(&[2, 1]);
    assert_eq!(both.ids().collect::<Vec<_>>(), [kek(2).id(), kek(1).id()]);
    assert_eq!(both.open(&IDENTITY, &old).unwrap().as_bytes(), b"key");
    let new = both.seal(&IDENTITY, &der(b"key")).unwrap();
    assert_eq!(KekRing::sealed_under(&new), Ok(kek(2).id()));
    assert_eq!(error(&ring(&[1]), &IDENTITY, &new), Some(SealError::UnknownKek(kek(2).id())));
}

#[test]
fn what_is_wrapped_anew_no_longer_needs_the_old_key() {
    let old = ring(&[1]).seal(&IDENTITY, &der(b"key")).unwrap();
    let both = ring(&[2, 1]);
    let new = both.rewrap(&IDENTITY, &old).unwrap().unwrap();
    assert_eq!(ring(&[2]).open(&IDENTITY, &new).unwrap().as_bytes(), b"key");
    assert_eq!(both.rewrap(&IDENTITY, &new), Ok(None), "it is under the first one already");
    assert_eq!(ring(&[2]).rewrap(&IDENTITY, &old), Err(SealError::UnknownKek(kek(1).id())));
    // A broken one is left as it is, and not made to look new.
    let mut broken = old;
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(both.rewrap(&IDENTITY, &broken), Err(SealError::Undecryptable));
}

#[test]
fn rings_that_cannot_be_are_refused() {
    assert!(matches!(KekRing::new([]), Err(KekError::Ring(_))));
    assert!(matches!(KekRing::new([kek(1), kek(2), kek(1)]), Err(KekError::Ring(_))));
    assert!(KekRing::new((0..16).map(kek)).is_ok());
    assert!(matches!(KekRing::new((0..17).map(kek)), Err(KekError::Ring(_))));
}

#[test]
fn what_was_never_sealed_is_malformed() {
    let ring = ring(&[1]);
    let good = ring.seal(&IDENTITY, &der(b"k")).unwrap();
    for cut in 0..good.len() {
        assert_eq!(error(&ring, &IDENTITY, &good[..cut]), Some(SealError::Malformed), "{cut}");
    }
    let mut later = good.clone();
    for format in (0..=255).filter(|format| *format != 1) {
        later[5] = format;
        assert_eq!(error(&ring, &IDENTITY, &later), Some(SealError::UnknownVersion(format)));
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(error(&ring, &IDENTITY, &longer), Some(SealError::Undecryptable));
    longer.resize(MAX_SEALED_BYTES + 1, 0);
    assert_eq!(error(&ring, &IDENTITY, &longer), Some(SealError::Malformed));
    assert_eq!(KekRing::sealed_under(b"CSKEY"), Err(SealError::Malformed));
}

#[test]
fn no_more_and_no_less_is_sealed_than_can_be_stored() {
    let ring = ring(&[1]);
    let largest = vec![7; MAX_PRIVATE_DER_BYTES];
    let sealed = ring.seal(&IDENTITY, &der(&largest)).unwrap();
    assert_eq!(sealed.len(), MAX_SEALED_BYTES);
    assert_eq!(ring.open(&IDENTITY, &sealed).unwrap().as_bytes(), largest);
    for refused in [vec![], vec![7; MAX_PRIVATE_DER_BYTES + 1]] {
        assert_eq!(ring.seal(&IDENTITY, &der(&refused)), Err(SealError::TooLarge));
    }
}

#[test]
fn what_was_sealed_by_the_first_version_still_opens() {
    let sealed: Vec<u8> = SEALED
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    assert_eq!(ring(&[1]).open(&IDENTITY, &sealed).unwrap().as_bytes(), b"a private key");
}

/// Made from the description of the format, with HKDF and AES-GCM of Python's `cryptography`.
const SEALED: &str = concat!(
    "43534b45590138d78d7f498f3729f7e0e4d625a83bdc000102030405060708090a0ba123a742d852eddd547356247a26",
    "f2e7ee573d96cc0b2692b41b0ad9e3fe3539cd2638cc7f054ac2ae62e00fca78085e32333435363738393a3b3c3d99b3",
    "4e3485029dd5be8dcdb8285c93290780835a68158ca6c8668a61b2",
);

proptest! {
    #[test]
    fn no_bit_can_be_changed(at in 0_usize..200, bit in 0_u8..8) {
        let ring = ring(&[1]);
        let mut sealed = ring.seal(&IDENTITY, &der(&[7; 64])).unwrap();
        let at = at % sealed.len();
        sealed[at] ^= 1 << bit;
        prop_assert!(error(&ring, &IDENTITY, &sealed).is_some());
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), begins_well: bool) {
        let bytes = if begins_well { [b"CSKEY\x01".as_slice(), &kek(1).id().0, &bytes].concat() } else { bytes };
        prop_assert!(error(&ring(&[1]), &IDENTITY, &bytes).is_some());
    }
}
