//! What minting costs above the bare signature, on one thread and on two.

use std::hint::black_box;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, PqdsaKeyPair, RsaKeyPair};
use countersign::{Algorithm, SigningKey};
use countersign_issuer::by_hand::RingByHand;
use countersign_issuer::state::KeyState;
use countersign_issuer::{Mint, Minter, RingConfig, Slot, SystemClock};
use serde::Serialize;

use crate::Failure;
use crate::timing::{BATCH, Contender, Effort, median, on_processor, rounds};

const SLOT: &str = "slot";

/// Of the rounds on several threads, odd, the middle one counts.
const ROUNDS: usize = 15;

#[derive(Serialize)]
struct Further<'a> {
    tenant: &'a str,
    roles: [&'a str; 2],
    sid: &'a str,
    email_verified: bool,
}

const FURTHER: Further<'static> = Further {
    tenant: "acme",
    roles: ["orders:clerk", "orders:auditor"],
    sid: "5f6f2b1e-8a7d-4b7e-9a8e-1c1f9f6f1d55",
    email_verified: true,
};

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = String::from(
        "### A signature, and a token\n\n\
         | | | bytes | × raw, one thread | µs | × raw, two threads | tokens per second, two threads |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
        table.push_str(&measure(algorithm, effort)?);
    }
    Ok(table)
}

fn measure(algorithm: Algorithm, effort: &Effort) -> Result<String, Failure> {
    let key = Arc::new(SigningKey::generate(algorithm)?.with_kid("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    let ring =
        RingByHand::new("https://issuer.example", RingConfig::new([Slot::new(SLOT, algorithm)]), SystemClock::new());
    // A view is good for half a minute, and nobody looks here; what is measured is not when it is renewed.
    let renew = || ring.show_keys([(SLOT, KeyState::Active, &key)]).expect("it has a name and a public part");
    renew();
    let minter = ring.minter();
    let sample = minter.mint(SLOT, &mint())?.token;
    let raw = Raw::new(algorithm, sample.rsplit_once('.').ok_or("three parts")?.0)?;
    let prepared = mint();
    // Rounds are short enough that no view grows old within one.
    let mut contenders = [
        Contender::prepared("raw `aws-lc-rs`, the same bytes, key and buffer ready", renew, || raw.sign()),
        Contender::prepared("`Minter::mint`, claims written anew", renew, || anew(&minter)),
        Contender::prepared("`Minter::mint`, claims written before", renew, || again(&minter, &prepared)),
    ];
    let mut alone = rounds(&mut contenders, effort);
    let names = contenders.map(|contender| contender.name);

    let loads: [&Load<'_>; 3] = [&|| raw.sign(), &|| anew(&minter), &|| again(&minter, &prepared)];
    let mut together = [(); 3].map(|()| Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..loads.len() {
            // Who goes first changes, so that what drifts favours nobody.
            let at = (round + turn) % loads.len();
            renew();
            together[at].push(throughput(2, loads[at], effort));
        }
    }
    let (raw_alone, raw_together) = (alone[0].clone(), together[0].clone());
    let mut rows = String::new();
    for (at, name) in names.into_iter().enumerate() {
        // Of the times that were measured side by side.
        let one = median(&mut ratios(&raw_alone, &alone[at]));
        let two = median(&mut ratios(&together[at], &raw_together));
        let (bytes, micros, rate) = (sample.len(), median(&mut alone[at]), median(&mut together[at]));
        rows.push_str(&format!("| {algorithm} | {name} | {bytes} | {one:.3} | {micros:.2} | {two:.3} | {rate:.0} |\n"));
    }
    Ok(rows)
}

/// Of each round.
fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

type Load<'a> = dyn Fn() + Sync + 'a;

fn mint() -> Mint {
    Mint::new(Duration::from_secs(300))
        .subject("7f9c2ba4-e88f-4a7b-9a3e-3b5b6f0d2c11")
        .audience("https://orders.example")
        .client_id("web-frontend")
        .scope("orders:read orders:write")
        .claims(&FURTHER)
}

fn anew(minter: &Minter) {
    black_box(minter.mint(SLOT, &mint()).expect("it signs"));
}

fn again(minter: &Minter, mint: &Mint) {
    black_box(minter.mint(SLOT, mint).expect("it signs"));
}

/// Calls per second of processor time of each thread, added up: so other processes' shares are not in it, and what
/// threads do to each other is.
fn throughput(threads: usize, load: &Load<'_>, effort: &Effort) -> f64 {
    let (start, calls) = (Barrier::new(threads), Mutex::new(0.0));
    thread::scope(|scope| {
        for _ in 0..threads {
            let (start, calls) = (&start, &calls);
            scope.spawn(move || {
                (0..BATCH).for_each(|_| load());
                start.wait();
                let (began, mut count) = (on_processor(), 0);
                let mut took = Duration::ZERO;
                while took < effort.round * 5 {
                    (0..BATCH).for_each(|_| load());
                    count += BATCH;
                    took = on_processor() - began;
                }
                *calls.lock().expect("nobody panics") += count as f64 / took.as_secs_f64();
            });
        }
    });
    calls.into_inner().expect("nobody panics")
}

/// The physical limit: the signature of as many bytes as a token has before it, by the library itself.
struct Raw {
    message: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    MlDsa(PqdsaKeyPair),
}

impl Raw {
    fn new(algorithm: Algorithm, message: &str) -> Result<Self, Failure> {
        let rsa = |encoding: &'static dyn signature::RsaEncoding| {
            Ok::<_, Failure>(Pair::Rsa(RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)?, encoding))
        };
        let pair = match algorithm {
            Algorithm::Es256 => Pair::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?),
            Algorithm::Es384 => Pair::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?),
            Algorithm::Es512 => Pair::Ec(EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING)?),
            Algorithm::Ed25519 | Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate()?),
            Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256)?,
            Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384)?,
            Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512)?,
            Algorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256)?,
            Algorithm::Ps384 => rsa(&signature::RSA_PSS_SHA384)?,
            Algorithm::Ps512 => rsa(&signature::RSA_PSS_SHA512)?,
            Algorithm::MlDsa44 => Pair::MlDsa(PqdsaKeyPair::generate(&signature::ML_DSA_44_SIGNING)?),
            Algorithm::MlDsa65 => Pair::MlDsa(PqdsaKeyPair::generate(&signature::ML_DSA_65_SIGNING)?),
            Algorithm::MlDsa87 => Pair::MlDsa(PqdsaKeyPair::generate(&signature::ML_DSA_87_SIGNING)?),
            _ => return Err("not measured".into()),
        };
        Ok(Self { message: message.as_bytes().to_vec(), pair })
    }

    fn sign(&self) {
        let random = SystemRandom::new();
        let message = black_box(self.message.as_slice());
        match &self.pair {
            Pair::Ec(pair) => _ = black_box(pair.sign(&random, message).expect("it signs")),
            Pair::Ed25519(pair) => _ = black_box(pair.sign(message)),
            Pair::Rsa(pair, encoding) => {
                let mut signature = [0; 256];
                pair.sign(*encoding, &random, message, &mut signature).expect("it signs");
                black_box(signature);
            }
            Pair::MlDsa(pair) => {
                // ML-DSA-87's, the longest.
                let mut signature = [0; 4_627];
                let length = pair.sign(message, &mut signature).expect("it signs");
                black_box(&signature[..length]);
            }
        }
    }
}
