//! What histories are made of: settings, tokens, and what happens.

use countersign::{Algorithm, VerifyingKey};
use countersign_testkit::{TestKey, Token};
use http::{HeaderMap, HeaderValue, header};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::world::ISSUERS;

pub(crate) const START: i64 = 1_800_000_000;

/// Where there is a greatest age.
pub(crate) const MAX_AGE_SECONDS: i64 = 60;

/// How many tokens a history has, besides what is made of them.
pub(crate) const TOKENS: usize = 5;

/// Material number, name, and to whom it is bound.
pub(crate) type Named = (usize, Option<u8>, Option<usize>);

#[derive(Clone, Debug)]
pub(crate) struct Minted {
    pub(crate) key: (usize, Option<u8>),
    pub(crate) issuer: usize,
    pub(crate) subject: u8,
    pub(crate) jti: u8,
    /// Tenths of seconds from the start.
    pub(crate) exp: i64,
    pub(crate) nbf: Option<i64>,
    pub(crate) iat: Option<i64>,
    /// Whether it fits `Typed`.
    pub(crate) fits: bool,
    pub(crate) scope: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// One octet to another.
    Octet(prop::sample::Index, u8),
    /// The end is cut off.
    Shorter(prop::sample::Index),
    /// The header, payload or signature is that of another token.
    Part(usize, usize),
    /// All but so many of the last characters is that of another token.
    Tail(usize, usize),
}

/// How a token is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shown {
    Plainly,
    LowerCase,
    Spaces,
    Twice,
    SpaceBehind,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask(usize, u8, Shown),
    AskChanged(usize, Vec<Change>),
    /// Others, and behind them those of these tokens (a bit each); whether it knows its predecessor.
    Keys(usize, Vec<Named>, u8, bool),
    /// The keys in force, in the opposite order.
    Reorder(usize),
    NoKeys(usize),
    Clock(i64),
    /// To where a token's times turn, or a tenth beside: `exp`, `nbf`, `iat`, its greatest age.
    Edge(usize, u8, i64),
    Revoke(usize, Kind),
    Forgive,
    Banish(u8),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Jti,
    Subject,
    Client,
    Issuer,
    Key,
    Material,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) typed: bool,
    /// Tokens and bytes.
    pub(crate) cache: (usize, usize),
    pub(crate) max_age: bool,
    pub(crate) leeway: u64,
    pub(crate) issuer_of_key: bool,
    pub(crate) needs_scope: bool,
    pub(crate) needs_kid: bool,
    pub(crate) apart: bool,
    pub(crate) knows_issuers: bool,
    pub(crate) layer_revokes: bool,
}

pub(crate) fn material(number: usize) -> TestKey {
    TestKey::nth(if number == 3 { Algorithm::Ed25519 } else { Algorithm::Hs256 }, 900 + number)
}

pub(crate) fn named(&(number, kid, issuer): &Named) -> VerifyingKey {
    let key = match kid {
        Some(kid) => material(number).with_kid(format!("k{kid}")),
        None => material(number).without_kid(),
    };
    let key = key.verifying_key();
    match issuer {
        Some(issuer) => key.bound_to_issuer(ISSUERS[issuer]),
        None => key,
    }
}

impl Minted {
    /// Its key, as it stands in a set.
    pub(crate) fn named(&self) -> Named {
        (self.key.0, self.key.1, None)
    }

    /// Tenths of seconds from the start at which one of its times turns.
    pub(crate) fn edge(&self, which: u8, leeway: i64) -> i64 {
        match which {
            0 => self.exp + leeway,
            1 => self.nbf.unwrap_or(0) - leeway,
            2 => self.iat.unwrap_or(0) - leeway,
            _ => self.iat.unwrap_or(0) + MAX_AGE_SECONDS * 10 + leeway,
        }
    }

    pub(crate) fn sign(&self) -> String {
        let key = match self.key {
            (number, Some(kid)) => material(number).with_kid(format!("k{kid}")),
            (number, None) => material(number).without_kid(),
        };
        let at = |tenths: i64| serde_json::Number::from_f64(START as f64 + tenths as f64 / 10.0);
        let mut token = Token::new(&key)
            .issuer(ISSUERS[self.issuer])
            .audience("orders")
            .subject(&format!("s{}", self.subject))
            .client_id(&format!("c{}", self.subject % 2))
            .claim("jti", format!("j{}", self.jti))
            .claim("exp", at(self.exp))
            .without("iat");
        for (name, time) in [("nbf", self.nbf), ("iat", self.iat)] {
            if let Some(time) = time {
                token = token.claim(name, at(time));
            }
        }
        token = if self.fits { token.claim("n", 7) } else { token.claim("n", "seven") };
        if self.scope { token.scope("read").sign() } else { token.sign() }
    }
}

pub(crate) fn named_key() -> impl Strategy<Value = Named> {
    (
        0..4_usize,
        prop_oneof![4 => (0..2_u8).prop_map(Some), 1 => Just(None)],
        prop_oneof![2 => Just(None), 1 => (0..2_usize).prop_map(Some)],
    )
}

pub(crate) fn minted() -> impl Strategy<Value = Minted> {
    let times = (300..6000_i64, prop::option::of(-600..300_i64), prop::option::of(-900..100_i64));
    let key = (0..4_usize, prop_oneof![4 => (0..2_u8).prop_map(Some), 1 => Just(None)]);
    (key, 0..2_usize, 0..3_u8, 0..3_u8, times, prop::bool::weighted(0.9), prop::bool::weighted(0.9)).prop_map(
        |(key, issuer, subject, jti, (exp, nbf, iat), fits, scope)| Minted {
            key,
            issuer,
            subject,
            jti,
            exp,
            nbf,
            iat,
            fits,
            scope,
        },
    )
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<prop::sample::Index>(), prop::sample::select(b"AQgw_-.0 =z".to_vec()))
            .prop_map(|(at, to)| Change::Octet(at, to)),
        any::<prop::sample::Index>().prop_map(Change::Shorter),
        (0..3_usize, 0..TOKENS).prop_map(|(part, of)| Change::Part(part, of)),
        (prop::sample::select(vec![1, 8, 24, 32, 43, 44]), 0..TOKENS).prop_map(|(kept, of)| Change::Tail(kept, of)),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let shown = prop_oneof![
        8 => Just(Shown::Plainly), 1 => Just(Shown::LowerCase), 1 => Just(Shown::Spaces), 1 => Just(Shown::Twice), 1 => Just(Shown::SpaceBehind)
    ];
    let kind =
        prop::sample::select(vec![Kind::Jti, Kind::Subject, Kind::Client, Kind::Issuer, Kind::Key, Kind::Material]);
    prop_oneof![
        20 => (0..TOKENS, 1..4_u8, shown).prop_map(|(token, times, shown)| Step::Ask(token, times, shown)),
        6 => (0..TOKENS, vec(change(), 1..3)).prop_map(|(token, changes)| Step::AskChanged(token, changes)),
        4 => (0..2_usize, vec(named_key(), 0..3), any::<u8>(), any::<bool>())
            .prop_map(|(issuer, others, own, succeeding)| Step::Keys(issuer, others, own, succeeding)),
        2 => (0..2_usize).prop_map(Step::Reorder),
        1 => (0..2_usize).prop_map(Step::NoKeys),
        4 => (-400..400_i64).prop_map(Step::Clock),
        4 => (0..TOKENS, 0..4_u8, -1..2_i64).prop_map(|(token, which, beside)| Step::Edge(token, which, beside)),
        2 => (0..TOKENS, kind).prop_map(|(token, kind)| Step::Revoke(token, kind)),
        2 => Just(Step::Forgive),
        1 => (0..4_u8).prop_map(Step::Banish),
    ]
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    // Few entries and few bytes; one of each; a size that is never reached.
    let cache = prop::sample::select(vec![(2, 4096), (1, 1), (2, 200_000), (16, 64 * 1024), (16 * 1024, 64 << 20)]);
    let weighted = prop::bool::weighted;
    (
        (any::<bool>(), cache, weighted(0.3), 0..40_u64, weighted(0.2)),
        (weighted(0.3), weighted(0.2), weighted(0.3), weighted(0.7), weighted(0.3)),
    )
        .prop_map(
            |(
                (typed, cache, max_age, leeway, issuer_of_key),
                (needs_scope, needs_kid, apart, knows_issuers, layer_revokes),
            )| {
                Settings {
                    typed,
                    cache,
                    max_age,
                    leeway,
                    issuer_of_key,
                    needs_scope,
                    needs_kid,
                    apart,
                    knows_issuers,
                    layer_revokes,
                }
            },
        )
}

pub(crate) fn apply(token: &str, changes: &[Change], all: &[String]) -> String {
    let mut token = token.to_owned();
    for change in changes {
        token = match change {
            Change::Octet(at, to) => {
                let mut octets = token.clone().into_bytes();
                if !octets.is_empty() {
                    let at = at.index(octets.len());
                    octets[at] = *to;
                }
                String::from_utf8_lossy(&octets).into_owned()
            }
            Change::Shorter(at) => token[..at.index(token.len().max(1)).min(token.len())].to_owned(),
            Change::Part(part, of) => {
                let mut parts: Vec<_> = token.split('.').collect();
                let theirs: Vec<_> = all[*of].split('.').collect();
                if let Some(own) = parts.get_mut(*part) {
                    *own = theirs[*part];
                }
                parts.join(".")
            }
            Change::Tail(kept, of) => {
                let kept = token.len().saturating_sub(*kept);
                let theirs = &all[*of];
                format!("{}{}", &theirs[..theirs.rfind('.').map_or(0, |dot| dot + 1)], &token[kept..])
            }
        };
    }
    token
}

pub(crate) fn show(token: &str, shown: Shown) -> HeaderMap {
    let value = match shown {
        Shown::Plainly | Shown::Twice => format!("Bearer {token}"),
        Shown::LowerCase => format!("bEARER {token}"),
        Shown::Spaces => format!("Bearer   {token}"),
        Shown::SpaceBehind => format!("Bearer {token} "),
    };
    let value = HeaderValue::from_str(&value).expect("no control characters");
    let mut headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.clone())]);
    if matches!(shown, Shown::Twice) {
        headers.append(header::AUTHORIZATION, value);
    }
    headers
}
