//! `countersign tick`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use countersign::UnixTime;
use countersign_issuer::step::{Note, Role};
use countersign_issuer::{RingConfig, RingEvent, Slot};
use serde_json::json;

use crate::exit::{Answer, Exit, Failure};
use crate::output::{Screen, shown};
use crate::ring::{PATIENCE, Place, date, duration, no_ring, settle, unsettled};
use crate::runtime;

#[derive(Args)]
pub(crate) struct Tick {
    #[command(flatten)]
    place: Place,

    /// Whose ring it is: the `iss` of its tokens.
    #[arg(long, value_name = "ISSUER")]
    issuer: String,

    /// A kind of key that there always is: ES256, RS256:4096, NAME=ALG. Again: another. A ring that begins needs one; one that is there has its own.
    #[arg(long = "slot", value_name = "SLOT")]
    slots: Vec<Slot>,

    /// How long a key signs. The ring does not know it: say it each time, if it is not the default.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    rotation: Duration,

    /// How long a key stays published after it was seen to sign no more. [default: the ring's, or 24h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    overlap: Option<Duration>,

    /// The longest lifetime of a token, in the slots that are given. [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_lifetime: Option<Duration>,
}

impl Tick {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        runtime::wait(self.step(screen))?
    }

    async fn step(self, screen: &Screen) -> Result<Answer, Failure> {
        let found = self.place.open(&self.issuer, !self.slots.is_empty()).await?;
        let config = self.config(found.state.as_ref().map(RingConfig::of_ring))?;
        let notes: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&notes);
        let ring = found.start(config, Role::Rotator, |builder| {
            builder.on_event(move |event| heard.lock().unwrap_or_else(PoisonError::into_inner).extend(note(event)))
        });
        let ring = ring.await?;
        let settled = settle(&ring, PATIENCE, screen).await;
        let status = ring.status();
        let alarms: Vec<_> = status.alarms.iter().map(|alarm| format!("{alarm:?}")).collect();
        if !settled {
            return Err(unsettled(&ring, PATIENCE));
        }
        let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        let next = status.next_transition();
        let mut lines: Vec<_> = notes.iter().map(|note| shown(note)).collect();
        if lines.is_empty() {
            lines.push("nothing was due".to_owned());
        }
        lines.extend(next.map(|at| format!("next: {}", date(at))));
        lines.extend(alarms.iter().map(|alarm| format!("{}: {}", screen.paint().bad("alarm"), shown(alarm))));
        let document = json!({ "done": notes, "next": next.map(UnixTime::as_secs), "alarms": alarms });
        let exit = if alarms.is_empty() { Exit::Good } else { Exit::Alarm };
        Ok(Answer::new(exit, lines.into_iter().map(|line| line + "\n").collect(), &document))
    }

    fn config(&self, found: Option<RingConfig>) -> Result<RingConfig, Failure> {
        let mut config = match found {
            Some(config) => config,
            None if self.slots.is_empty() => return Err(no_ring()),
            None => RingConfig::new([]),
        };
        for slot in &self.slots {
            let slot = match self.max_lifetime {
                Some(lifetime) => slot.clone().max_lifetime(lifetime),
                None => slot.clone(),
            };
            config.slots.retain(|known| known.name != slot.name);
            config.slots.push(slot);
        }
        config.timing.rotation = self.rotation;
        // So long an outage of this command that nothing is rotated is bridged.
        let least = RingConfig::new([]).timing.hard_limit;
        config.timing.hard_limit = self.rotation.saturating_mul(2).max(least);
        if let Some(overlap) = self.overlap {
            config.timing.overlap = overlap;
        }
        Ok(config)
    }
}

/// What was done, for people and logs.
fn note(event: &RingEvent) -> Vec<String> {
    match event {
        RingEvent::Note(Note::Saved { moves, .. }) => {
            moves.iter().map(|(kid, state)| format!("{kid}: {}", format!("{state:?}").to_ascii_lowercase())).collect()
        }
        RingEvent::Note(Note::Published { seq }) => vec![format!("set {seq} is published")],
        _ => Vec::new(),
    }
}
