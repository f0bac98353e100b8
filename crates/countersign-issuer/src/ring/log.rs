//! What happens, as events of `tracing`. No secret is in them: names of keys and slots, numbers, and texts of stores,
//! in which none may be.

use super::event::RingEvent;
use super::work::Work;
use crate::step::{Alarm, Note};

const TARGET: &str = "countersign_issuer";

pub(super) fn log(issuer: &str, event: &RingEvent) {
    match event {
        RingEvent::Alarm(alarm) if is_grave(alarm) => {
            tracing::error!(target: TARGET, issuer, alarm = ?alarm, "alarm");
        }
        RingEvent::Alarm(alarm) => tracing::warn!(target: TARGET, issuer, alarm = ?alarm, "alarm"),
        RingEvent::Cleared(alarm) => tracing::info!(target: TARGET, issuer, alarm = ?alarm, "the alarm is over"),
        RingEvent::Note(note) => log_note(issuer, note),
        RingEvent::RevocationPushed { kid, within } => {
            tracing::warn!(target: TARGET, issuer, kid = ?kid, within = ?within, "the sink has a revocation");
        }
        // It may be one race of many that were lost; what matters becomes an alarm.
        RingEvent::Failed { work: Work::SaveState | Work::Publish, error } => {
            tracing::debug!(target: TARGET, issuer, error = ?error, "a write did not succeed");
        }
        RingEvent::Failed { work, error } => {
            tracing::warn!(target: TARGET, issuer, work = work.code(), error = ?error, "it did not succeed");
        }
    }
}

fn log_note(issuer: &str, note: &Note) {
    match note {
        Note::Saved { seq, moves } => {
            tracing::info!(target: TARGET, issuer, seq, moves = ?moves, "a version of the ring was written");
        }
        Note::Published { seq } => tracing::info!(target: TARGET, issuer, seq, "the key set was published"),
        other => tracing::debug!(target: TARGET, issuer, note = ?other, "seen"),
    }
}

/// Whether somebody has to get up at night.
fn is_grave(alarm: &Alarm) -> bool {
    matches!(
        alarm,
        Alarm::StateRolledBack
            | Alarm::StateLost
            | Alarm::SetEdited
            | Alarm::WouldShrink(_)
            | Alarm::ClockUnsound
            | Alarm::PrivateMissing(_)
            | Alarm::Defect(_)
    )
}
