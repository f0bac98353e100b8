//! Files that are read again when they change.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::open::{Thumbprint, read_pem, thumbprint_of};
use crate::config::TlsFiles;
use crate::service::TokenService;
use crate::tls::Tls;
use crate::{numbers, policy_file};

/// How often is looked whether the policy, or what TLS needs, has changed.
const POLL: Duration = Duration::from_secs(1);

/// What TLS needs, and where it is.
pub(super) struct SecuredBy {
    pub(super) tls: Tls,
    pub(super) files: TlsFiles,
    /// What of them was read last.
    pub(super) seen: Thumbprint,
}

/// Never ends. What two looks in a row have found alike is taken: one that is being written may lack its end, which is where it
/// says what a grant does not allow.
pub(super) async fn watch(service: &TokenService, file: &Path, mut seen: String) {
    let mut found = seen.clone();
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_good = true;
    loop {
        ticks.tick().await;
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || policy_file::read(&path)).await;
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                tracing::warn!(target: "countersign::service", %error, "the policy cannot be read; the one in force stays");
                numbers::policy_failing(true);
                continue;
            }
            Err(_) => continue,
        };
        let is_settled = text == found;
        found.clone_from(&text);
        if is_settled && text != seen {
            let reloaded = service.reload(&text);
            if let Err(error) = &reloaded {
                tracing::error!(target: "countersign::service", %error, "the policy is not good; the one in force stays");
            }
            is_good = reloaded.is_ok();
            seen = text;
        }
        numbers::policy_failing(!is_good);
    }
}

/// Never ends. A certificate and a key that were written one after the other are a pair at the next look.
pub(super) async fn watch_tls(secured: Option<SecuredBy>) {
    let Some(SecuredBy { tls, files, mut seen }) = secured else { return pending().await };
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let paths = files.clone();
        let read = tokio::task::spawn_blocking(move || read_pem(&paths)).await;
        let pem = match read {
            Ok(Ok(pem)) => pem,
            Ok(Err(error)) => {
                tracing::warn!(target: "countersign::service", %error, "TLS: what is in force stays");
                continue;
            }
            Err(_) => continue,
        };
        let next = thumbprint_of(&pem);
        if next == seen {
            continue;
        }
        seen = next;
        match tls.reload(&pem) {
            Ok(()) => tracing::info!(target: "countersign::service", "TLS: another certificate in force"),
            Err(error) => tracing::error!(target: "countersign::service", %error, "TLS: what is in force stays"),
        }
    }
}
