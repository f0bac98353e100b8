//! What happens, in numbers, for the recorder of the `metrics` crate. Labels are names of slots, of kinds of work and
//! of alarms, and the issuer: nobody who sends tokens can add one.

use std::time::Duration;

use metrics::{counter, gauge};

use super::event::RingEvent;
use super::status::rotates_at;
use crate::config::RingConfig;
use crate::desk::Desk;
use crate::publication::Publication;
use crate::step::{Alarm, Node, Note};
use crate::time::Now;

pub(super) fn count(issuer: &str, event: &RingEvent) {
    let issuer = issuer.to_owned();
    match event {
        RingEvent::Alarm(alarm) => {
            counter!("countersign_ring_alarms_total", "issuer" => issuer, "alarm" => name(alarm)).increment(1);
        }
        RingEvent::Failed { work, .. } => {
            counter!("countersign_ring_failures_total", "issuer" => issuer, "work" => work.code()).increment(1);
        }
        RingEvent::Note(Note::Saved { moves, .. }) => {
            counter!("countersign_ring_versions_total", "issuer" => issuer.clone()).increment(1);
            for (_, state) in moves {
                let phase = format!("{state:?}").to_ascii_lowercase();
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
    gauge("countersign_ring_alarms", node.alarms().count() as f64);
    gauge("countersign_ring_clock_unsound", f64::from(u8::from(!node.is_clock_sound())));
    gauge("countersign_ring_lease_age_seconds", node.view_age(now).map_or(f64::INFINITY, |age| age.as_secs_f64()));
    let Some(ring) = &desk.ring else { return };
    gauge("countersign_ring_keys", ring.published().count() as f64);
    if let Ok(publication) = Publication::of(ring, config, now.wall) {
        gauge("countersign_ring_jwks_bytes", publication.bytes.len() as f64);
    }
    for slot in ring.slots.keys() {
        let gauge = |name: &'static str, value: f64| {
            gauge!(name, "issuer" => issuer.to_owned(), "slot" => slot.clone()).set(value);
        };
        let signs = desk.view.leave(slot, now).is_ok();
        gauge("countersign_ring_signs", f64::from(u8::from(signs)));
        if let Some(at) = ring.active(slot).and_then(|(_, key)| key.activated_at) {
            gauge("countersign_ring_key_age_seconds", now.wall.saturating_since(at).as_secs_f64());
        }
        if let Some(at) = rotates_at(ring, slot, config.timing.rotation) {
            let (left, late): (Duration, Duration) = (at.saturating_since(now.wall), now.wall.saturating_since(at));
            gauge("countersign_ring_rotation_due_seconds", left.as_secs_f64() - late.as_secs_f64());
        }
    }
}

/// The kind, without the names that belong to it.
fn name(alarm: &Alarm) -> &'static str {
    match alarm {
        Alarm::StoreFailing(_) => "store_failing",
        Alarm::PublishFailing(_) => "publish_failing",
        Alarm::ReadBackFailing(_) => "read_back_failing",
        Alarm::PrivateStoreFailed(_) => "private_store_failed",
        Alarm::PrivateUnavailable(..) => "private_unavailable",
        Alarm::PrivateMissing(_) => "private_missing",
        Alarm::DestroyFailing(_) => "destroy_failing",
        Alarm::GenerationFailing(_) => "generation_failing",
        Alarm::ClockUnsound => "clock_unsound",
        Alarm::RotationOverdue(_) => "rotation_overdue",
        Alarm::StateRolledBack => "state_rolled_back",
        Alarm::StateLost => "state_lost",
        Alarm::SetEdited => "set_edited",
        Alarm::WouldShrink(_) => "would_shrink",
        Alarm::SetAhead => "set_ahead",
        Alarm::Unpublishable => "unpublishable",
        Alarm::RevocationFailing(_) => "revocation_failing",
        Alarm::Defect(_) => "defect",
    }
}
