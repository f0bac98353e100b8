//! What happens, in numbers, for the recorder of the `metrics` crate. Labels are names of slots, of kinds of work and
//! of alarms, and the issuer: nobody who sends tokens can add one.

use countersign_claims::UnixTime;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::event::RingEvent;
use super::status::rotates_at;
use super::work::Work;
use crate::config::RingConfig;
use crate::desk::Desk;
use crate::state::KeyState;
use crate::step::{Alarm, Node, Note};
use crate::time::Now;

/// What can happen, from 0 on: a counter that appears with its first event hides that event from whoever asks for its
/// increase.
pub(super) fn begin(issuer: &str) {
    describe();
    let zero = |name: &'static str, label: Option<(&'static str, &str)>| match label {
        Some((label, value)) => {
            counter!(name, "issuer" => issuer.to_owned(), label => value.to_owned()).increment(0);
        }
        None => counter!(name, "issuer" => issuer.to_owned()).increment(0),
    };
    Alarm::CODES.iter().for_each(|code| zero("countersign_ring_alarms_total", Some(("alarm", code))));
    Work::ALL.iter().for_each(|work| zero("countersign_ring_failures_total", Some(("work", work.code()))));
    KeyState::ALL.iter().for_each(|state| zero("countersign_ring_moves_total", Some(("phase", &phase(*state)))));
    zero("countersign_ring_versions_total", None);
    zero("countersign_ring_publications_total", None);
    zero("countersign_ring_lost_races_total", None);
    zero("countersign_ring_doubts_total", None);
}

pub(super) fn count(issuer: &str, event: &RingEvent) {
    let issuer = issuer.to_owned();
    match event {
        RingEvent::Alarm(alarm) => {
            counter!("countersign_ring_alarms_total", "issuer" => issuer, "alarm" => alarm.code()).increment(1);
        }
        RingEvent::Failed { work, .. } => {
            counter!("countersign_ring_failures_total", "issuer" => issuer, "work" => work.code()).increment(1);
        }
        RingEvent::Note(Note::Saved { moves, .. }) => {
            counter!("countersign_ring_versions_total", "issuer" => issuer.clone()).increment(1);
            for (_, state) in moves {
                let phase = phase(*state);
                counter!("countersign_ring_moves_total", "issuer" => issuer.clone(), "phase" => phase).increment(1);
            }
        }
        RingEvent::Note(Note::Published { .. }) => {
            counter!("countersign_ring_publications_total", "issuer" => issuer).increment(1);
        }
        RingEvent::Note(Note::LostRace) => {
            counter!("countersign_ring_lost_races_total", "issuer" => issuer).increment(1);
        }
        RingEvent::Note(Note::DoubtResolved) => {
            counter!("countersign_ring_doubts_total", "issuer" => issuer).increment(1);
        }
        _ => {}
    }
}

/// How things are, after a step.
pub(super) fn show(issuer: &str, desk: &Desk, node: &Node, config: &RingConfig, now: Now) {
    let gauge = |name: &'static str, value: f64| gauge!(name, "issuer" => issuer.to_owned()).set(value);
    for code in Alarm::CODES {
        let count = node.alarms().filter(|alarm| alarm.code() == code).count();
        gauge!("countersign_ring_alarms", "issuer" => issuer.to_owned(), "alarm" => code).set(count as f64);
    }
    gauge("countersign_ring_clock_unsound", f64::from(u8::from(!node.is_clock_sound())));
    gauge("countersign_ring_lease_age_seconds", node.view_age(now).map_or(f64::INFINITY, |age| age.as_secs_f64()));
    let Some(ring) = &desk.ring else { return };
    gauge("countersign_ring_keys", ring.published().count() as f64);
    if let Ok(document) = &desk.document {
        gauge("countersign_ring_jwks_bytes", document.bytes() as f64);
    }
    for slot in ring.slots.keys() {
        let gauge = |name: &'static str, value: f64| {
            gauge!(name, "issuer" => issuer.to_owned(), "slot" => slot.clone()).set(value);
        };
        let signs = desk.view.leave(slot, now).is_ok();
        gauge("countersign_ring_signs", f64::from(u8::from(signs)));
        if let Some(at) = ring.active(slot).and_then(|(_, key)| key.activated_at) {
            gauge("countersign_ring_key_age_seconds", now.wall.saturating_since(at).as_secs_f64());
            let limit = at.saturating_add(config.timing.hard_limit);
            gauge("countersign_ring_key_limit_seconds", until(limit, now.wall));
        }
        if let Some(at) = rotates_at(ring, slot, config.timing.rotation) {
            gauge("countersign_ring_rotation_due_seconds", until(at, now.wall));
        }
    }
}

/// Seconds; below 0 once it has passed.
fn until(at: UnixTime, now: UnixTime) -> f64 {
    at.saturating_since(now).as_secs_f64() - now.saturating_since(at).as_secs_f64()
}

/// As it stands in metrics.
fn phase(state: KeyState) -> String {
    format!("{state:?}").to_ascii_lowercase()
}

fn describe() {
    for (name, unit, text) in [
        ("countersign_ring_signs", Unit::Count, "1 while this node signs in the slot"),
        ("countersign_ring_key_age_seconds", Unit::Seconds, "For how long the active key has signed"),
        (
            "countersign_ring_key_limit_seconds",
            Unit::Seconds,
            "Until the active key has signed for as long as it ever may",
        ),
        (
            "countersign_ring_rotation_due_seconds",
            Unit::Seconds,
            "Until the slot is due to be rotated; below 0 if it is overdue",
        ),
        ("countersign_ring_lease_age_seconds", Unit::Seconds, "How old the view of the state is that is signed by"),
        ("countersign_ring_clock_unsound", Unit::Count, "1 while the clock of this node is not believed"),
        ("countersign_ring_alarms", Unit::Count, "What is alarming at present, by its kind"),
        ("countersign_ring_keys", Unit::Count, "Published keys"),
        ("countersign_ring_jwks_bytes", Unit::Bytes, "The size of the key set that is served"),
    ] {
        describe_gauge!(name, unit, text);
    }
    for (name, text) in [
        ("countersign_ring_alarms_total", "Alarms that were raised, by their kind"),
        ("countersign_ring_failures_total", "Work that did not succeed and is tried again"),
        ("countersign_ring_versions_total", "Versions of the state that this node has written"),
        ("countersign_ring_moves_total", "Keys that this node has moved on, by what they became"),
        ("countersign_ring_publications_total", "Key sets that this node has published"),
        ("countersign_ring_lost_races_total", "Writes that came too late, because another node was faster"),
        ("countersign_ring_doubts_total", "Writes that had been made although their answer said otherwise, or nothing"),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
}
