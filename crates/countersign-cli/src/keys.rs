//! `countersign keys`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign::claims::Clock as _;
use countersign::{SystemClock, UnixTime};
use countersign_issuer::publication::Publication;
use countersign_issuer::step::{Compromised, Role};
use countersign_issuer::{AdoptKey, KeyStatus, Ring, RingStatus, Slot, SlotStatus};
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::{self, Answer, Exit, Failure};
use crate::output::{Screen, shown};
use crate::ring::{self, PATIENCE, PATIENCE_TO_LOOK, Place, date, duration, not_done, settle, unsettled};
use crate::{input, runtime};

#[derive(Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

/// Which ring.
#[derive(Args)]
struct Which {
    #[command(flatten)]
    place: Place,

    /// Whose ring it is: the `iss` of its tokens.
    #[arg(long, value_name = "ISSUER")]
    issuer: String,
}

#[derive(Subcommand)]
enum Command {
    /// The slots and keys of a ring, and how far each has come.
    #[command(after_help = exit::HELP)]
    List(List),
    /// Has another key sign: at once where there is a standby, otherwise as soon as there is one.
    #[command(after_help = exit::HELP)]
    Rotate(Rotate),
    /// Revokes keys: nothing that they have signed counts any more.
    ///
    /// It is written at once. The answer says for how long verifiers may still accept their tokens. This command tells no verifier's revocation
    /// feed; the nodes of the ring do, and the published set.
    #[command(after_help = exit::HELP)]
    Revoke(Revoke),
    /// Gives up a key that has not signed yet: another is made in its place.
    #[command(after_help = exit::HELP)]
    Abandon(Abandon),
    /// Takes over keys of a service that has signed with them, all of them or none.
    #[command(after_help = exit::HELP)]
    Import(Import),
    /// The public keys of a ring, as a JWK Set. Private keys never leave it.
    #[command(after_help = exit::HELP)]
    Export(Export),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Rotate {
    /// In these slots; in all, if none is named.
    #[arg(value_name = "SLOT")]
    slots: Vec<String>,

    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Revoke {
    /// Which, by their `kid`; behind `--`, if one begins with `-`.
    #[arg(value_name = "KID", required_unless_present = "all", conflicts_with = "all")]
    kids: Vec<String>,

    /// Every key there is, standbys included.
    #[arg(long)]
    all: bool,

    /// Where no key is left to sign with, let the next one sign before all verifiers can have it.
    #[arg(long)]
    sign_at_once: bool,

    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Abandon {
    /// Which, by its `kid`; behind `--`, if it begins with `-`.
    #[arg(value_name = "KID")]
    kid: String,

    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Import {
    /// A key that goes on signing: a private key in PEM (`-`: on standard input).
    #[arg(long, value_name = "FILE", required_unless_present = "retiring")]
    signing: Option<PathBuf>,

    /// What its tokens call it. [default: its thumbprint, RFC 7638]
    #[arg(long, value_name = "KID", requires = "signing")]
    kid: Option<String>,

    /// A key whose tokens are accepted until they have expired, and that signs no more: PEM, a JWK or a JWK Set, all public. Again: another.
    #[arg(long, value_name = "FILE")]
    retiring: Vec<PathBuf>,

    /// The slot that they belong to.
    #[arg(long, value_name = "SLOT")]
    into: String,

    /// For how long tokens live that the other service has signed: `24h`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    tokens_for: Duration,

    /// A slot, for a ring that begins with this: ES256, RS256:4096, NAME=ALG. Again: another.
    #[arg(long = "slot", value_name = "SLOT")]
    slots: Vec<Slot>,

    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
struct Export {
    #[command(flatten)]
    which: Which,
}

impl Keys {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        runtime::wait(async {
            match self.command {
                Command::List(command) => command.run(screen).await,
                Command::Rotate(command) => command.run(screen).await,
                Command::Revoke(command) => command.run(screen).await,
                Command::Abandon(command) => command.run(screen).await,
                Command::Import(command) => command.run(screen).await,
                Command::Export(command) => command.run().await,
            }
        })?
    }
}

impl Which {
    /// A node that carries out orders, and does nothing of its own accord that the ring's own nodes decide.
    async fn tool(&self, role: Role) -> Result<Ring, Failure> {
        let found = self.place.open(&self.issuer, false).await?;
        let config = found.config()?;
        found.start(config, role, |builder| builder).await
    }
}

impl List {
    async fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let ring = self.which.tool(Role::Signer).await?;
        if !settle(&ring, PATIENCE_TO_LOOK, screen).await {
            screen.warn(&unsettled(&ring, PATIENCE_TO_LOOK).message);
        }
        let status = ring.status();
        Ok(Answer::new(Exit::Good, text(&status, screen), &document(&status)))
    }
}

impl Rotate {
    async fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let ring = self.which.tool(Role::Rotator).await?;
        // A standby signs only where its private part is at hand.
        settle(&ring, PATIENCE, screen).await;
        let rotated = ring.rotate(self.slots).await.map_err(|error| not_done(&error))?;
        finish(&ring, screen).await;
        let lines = rotated.now.iter().map(|slot| format!("{slot}: another key signs now\n"));
        let later =
            rotated.later.iter().map(|slot| format!("{slot}: another key signs as soon as there is a standby\n"));
        let document = json!({ "now": rotated.now, "later": rotated.later });
        Ok(Answer::new(Exit::Good, lines.chain(later).collect(), &document))
    }
}

impl Revoke {
    async fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let ring = self.which.tool(Role::Rotator).await?;
        let which =
            if self.all { vec![Compromised::All] } else { self.kids.into_iter().map(Compromised::Key).collect() };
        let (mut kids, mut halted, mut exposure) = (Vec::new(), Vec::new(), None);
        let mut failures = Vec::new();
        // Not a moment is lost: whatever else is due comes behind. Nor is a key left in force for another that is misspelt.
        for which in which {
            match ring.compromise(which, self.sign_at_once).await {
                Ok(revoked) => {
                    kids.extend(revoked.kids);
                    halted = revoked.halted;
                    exposure = Some(revoked.exposure);
                }
                Err(error) => failures.push(not_done(&error)),
            }
        }
        finish(&ring, screen).await;
        if !failures.is_empty() {
            return Err(not_all(failures, &kids));
        }
        let exposure = exposure.map(|exposure| (exposure.with_feed.as_secs(), exposure.without_feed.as_secs()));
        let (with_feed, without_feed) = exposure.unwrap_or_default();
        let mut text: String = kids.iter().map(|kid| format!("revoked: {}\n", shown(kid))).collect();
        text += &format!(
            "verifiers may accept their tokens for {without_feed} s more; with a feed that a node of the ring tells, {with_feed} s\n"
        );
        text.extend(halted.iter().map(|slot| {
            format!("{}: no key signs in slot {slot} until there is another\n", screen.paint().bad("halted"))
        }));
        let document = json!({
            "revoked": kids, "halted": halted,
            "exposure_seconds": { "with_feed": with_feed, "without_feed": without_feed },
        });
        Ok(Answer::new(Exit::Good, text, &document))
    }
}

/// One failure in the words of all, and what was done in spite of them. What could not be had comes first: it may be, later.
fn not_all(mut failures: Vec<Failure>, kids: &[String]) -> Failure {
    failures.sort_by_key(|failure| !matches!(failure.exit, Exit::Unavailable));
    let done = kids.iter().map(|kid| format!("revoked: {kid}"));
    let message = failures.iter().map(|failure| failure.message.clone()).chain(done).collect::<Vec<_>>().join("; ");
    match failures.first() {
        Some(Failure { exit: Exit::Unavailable, code, .. }) => Failure::unavailable(code, message),
        _ => Failure::refused("order_refused", message),
    }
}

impl Abandon {
    async fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let ring = self.which.tool(Role::Rotator).await?;
        ring.abandon(self.kid.as_str()).await.map_err(|error| not_done(&error))?;
        finish(&ring, screen).await;
        Ok(Answer::new(Exit::Good, format!("abandoned: {}\n", shown(&self.kid)), &json!({ "abandoned": self.kid })))
    }
}

impl Import {
    async fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let found = self.which.place.open(&self.which.issuer, !self.slots.is_empty()).await?;
        let mut config = match (&found.state, self.slots.as_slice()) {
            (None, []) => return Err(ring::no_ring()),
            (None, slots) => countersign_issuer::RingConfig::new(slots.to_vec()),
            (Some(_), _) => found.config()?,
        };
        for slot in &self.slots {
            if !config.slots.iter().any(|known| known.name == slot.name) {
                config.slots.push(slot.clone());
            }
        }
        let keys = self.keys(screen)?;
        let count = keys.len();
        let ring = found.start(config, Role::Rotator, |builder| builder).await?;
        ring.adopt(keys).await.map_err(|error| not_done(&error))?;
        finish(&ring, screen).await;
        Ok(Answer::new(Exit::Good, format!("{count} keys are part of the ring\n"), &json!({ "imported": count })))
    }

    fn keys(&self, screen: &Screen) -> Result<Vec<AdoptKey>, Failure> {
        let until = SystemClock.now().saturating_add(self.tokens_for);
        let mut keys = Vec::new();
        if let Some(path) = &self.signing {
            let pem = input::private_key(path, screen)?;
            let key = AdoptKey::signing(self.into.as_str(), &*pem, until);
            keys.push(match &self.kid {
                Some(kid) => key.kid(kid.as_str()),
                None => key,
            });
        }
        for path in &self.retiring {
            keys.extend(self.retiring_from(path, until, screen)?);
        }
        Ok(keys)
    }

    /// A file with one key or several.
    fn retiring_from(&self, path: &Path, until: UnixTime, screen: &Screen) -> Result<Vec<AdoptKey>, Failure> {
        let octets = input::document(path, "the public keys", screen)?;
        if !octets.trim_ascii_start().starts_with(b"{") {
            return Ok(vec![AdoptKey::retiring(self.into.as_str(), &*octets, until)]);
        }
        let document: Value = serde_json::from_slice(&octets)
            .map_err(|_| Failure::usage(format!("{} is neither PEM nor JSON", path.display())))?;
        let keys = match document.get("keys").and_then(Value::as_array) {
            Some(keys) => keys.clone(),
            None => vec![document],
        };
        Ok(keys.into_iter().map(|jwk| AdoptKey::retiring_jwk(self.into.as_str(), jwk, until)).collect())
    }
}

impl Export {
    async fn run(self) -> Result<Answer, Failure> {
        let found = self.which.place.open(&self.which.issuer, false).await?;
        let (config, state) = (found.config()?, found.state.as_ref().ok_or_else(ring::no_ring)?);
        let set = Publication::of(state, &config, SystemClock.now())
            .map_err(|error| Failure::refused("nothing_to_export", format!("there is no set to publish: {error:?}")))?;
        let set: Value = serde_json::from_slice(&set.bytes)
            .map_err(|_| Failure::refused("nothing_to_export", "there is no set to publish"))?;
        let text = crate::output::to_json(&set);
        Ok(Answer { exit: Exit::Good, text: text.clone(), json: Some(text) })
    }
}

/// What follows from an order that was carried out. That it goes on elsewhere, or later, is no failure of the order.
async fn finish(ring: &Ring, screen: &Screen) {
    if !settle(ring, PATIENCE, screen).await {
        screen.warn(&unsettled(ring, PATIENCE).message);
    }
    for alarm in ring.status().alarms {
        screen.warn(&format!("alarm: {alarm:?}"));
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    seq: Option<u64>,
    slots: BTreeMap<&'a str, Value>,
    keys: BTreeMap<&'a str, Value>,
    alarms: Vec<String>,
}

fn document(status: &RingStatus) -> Listed<'_> {
    let slot = |slot: &SlotStatus| {
        json!({
            "signs": slot.signs.as_ref().ok(),
            "does_not_sign_because": slot.signs.as_ref().err().map(ToString::to_string),
            "standby": slot.standby,
            "rotation_wanted": slot.is_rotation_wanted,
        })
    };
    let seconds = |time: Option<UnixTime>| time.map(UnixTime::as_secs);
    let key = |key: &KeyStatus| {
        json!({
            "slot": key.slot,
            "state": key.state,
            "announced_at": key.announced_at.as_secs(),
            "confirmed_at": seconds(key.confirmed_at),
            "activated_at": seconds(key.activated_at),
            "deactivated_at": seconds(key.deactivated_at),
            "next": next(key).map(|(state, at)| json!({ "state": state, "at": at.as_secs() })),
            "private_part_at_hand": key.is_held,
        })
    };
    Listed {
        seq: status.seq,
        slots: status.slots.iter().map(|(name, it)| (name.as_str(), slot(it))).collect(),
        keys: status.keys.iter().map(|(kid, it)| (kid.as_str(), key(it))).collect(),
        alarms: status.alarms.iter().map(|alarm| format!("{alarm:?}")).collect(),
    }
}

/// What comes next, as far as the ring says it: when a key is rotated is its nodes' to know.
fn next(key: &KeyStatus) -> Option<(countersign_issuer::state::KeyState, UnixTime)> {
    use countersign_issuer::state::KeyState::{Announced, Retiring};
    key.next.filter(|_| matches!(key.state, Announced | Retiring))
}

fn text(status: &RingStatus, screen: &Screen) -> String {
    let paint = screen.paint();
    let mut lines = Vec::new();
    for (name, slot) in &status.slots {
        let signs = match &slot.signs {
            Ok(kid) => paint.good(&format!("{} signs", shown(kid))),
            Err(reason) => paint.bad(&reason.to_string()),
        };
        lines.push(format!("slot {name}: {signs}"));
        for (kid, key) in status.keys.iter().filter(|(_, key)| key.slot == *name) {
            let state = serde_json::to_value(key.state).ok();
            let state = state.as_ref().and_then(Value::as_str).unwrap_or("unknown").to_owned();
            let since = key.deactivated_at.or(key.activated_at).or(key.confirmed_at).unwrap_or(key.announced_at);
            let next = next(key).map(|(next, at)| {
                let next = serde_json::to_value(next).ok();
                format!(", {} from {}", next.as_ref().and_then(Value::as_str).unwrap_or("unknown"), date(at))
            });
            lines.push(format!("  {state:<9} {}  since {}{}", shown(kid), date(since), next.unwrap_or_default()));
        }
    }
    lines.extend(status.alarms.iter().map(|alarm| format!("{}: {}", paint.bad("alarm"), shown(&format!("{alarm:?}")))));
    lines.into_iter().map(|line| line + "\n").collect()
}
