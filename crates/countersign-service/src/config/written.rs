//! Settings as they are written down.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, MetricsAt};
use crate::audit::WhenFull;

/// As they are written; those that are not there have their default, or no value.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) issuer: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) tls_certificate_file: Option<PathBuf>,
    pub(super) tls_key_file: Option<PathBuf>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) plain_http: Option<bool>,
    pub(super) directory: Option<PathBuf>,
    pub(super) store: Option<String>,
    pub(super) kek: Option<Vec<String>>,
    pub(super) kek_group_may_read: Option<bool>,
    pub(super) policy_file: Option<PathBuf>,
    pub(super) secret_key_file: Option<PathBuf>,
    pub(super) slots: Option<Vec<String>>,
    pub(super) max_lifetime: Option<u32>,
    pub(super) rotation: Option<u32>,
    pub(super) overlap: Option<u32>,
    pub(super) max_age: Option<u32>,
    pub(super) intermediary: Option<u32>,
    pub(super) clock_error: Option<u32>,
    pub(super) failed_authentications: Option<u32>,
    pub(super) audit_file: Option<PathBuf>,
    pub(super) audit_when_full: Option<String>,
    pub(super) audit_subjects: Option<String>,
    pub(super) metrics_listen: Option<String>,
    pub(super) revocations_file: Option<PathBuf>,
    pub(super) connections: Option<u32>,
    pub(super) handshake_time: Option<u32>,
    pub(super) head_time: Option<u32>,
    pub(super) ping_time: Option<u32>,
    pub(super) connection_time: Option<u32>,
    pub(super) ending_time: Option<u32>,
}

impl Settings {
    pub(super) fn of(config: &Config) -> Self {
        let (timing, limits) = (&config.ring.timing, &config.limits);
        // They were read as such a number, or are a default of minutes or days.
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).ok();
        Self {
            issuer: Some(config.issuer.clone()),
            base_url: config.base_url.clone(),
            listen: Some(config.listen.to_string()),
            tls_certificate_file: config.tls.as_ref().map(|tls| tls.certificate.clone()),
            tls_key_file: config.tls.as_ref().map(|tls| tls.key.clone()),
            client_ca_file: config.tls.as_ref().and_then(|tls| tls.client_authorities.clone()),
            plain_http: Some(config.plain_http),
            directory: Some(config.directory.clone()),
            store: config.store.as_ref().map(ToString::to_string),
            kek: (!config.kek.is_empty()).then(|| config.kek.clone()),
            kek_group_may_read: Some(config.kek_group_may_read),
            policy_file: config.policy_file.clone(),
            secret_key_file: config.secret_key_file.clone(),
            slots: Some(config.ring.slots.iter().map(ToString::to_string).collect()),
            max_lifetime: seconds(timing.max_lifetime),
            rotation: seconds(timing.rotation),
            overlap: seconds(timing.overlap),
            max_age: seconds(timing.max_age),
            intermediary: seconds(timing.intermediary),
            clock_error: seconds(timing.clock_error),
            failed_authentications: Some(config.failed_authentications),
            audit_file: config.audit_file.clone(),
            audit_when_full: Some(if config.audit_when_full == WhenFull::Drop { "drop" } else { "block" }.to_owned()),
            audit_subjects: Some(if config.hashes_audit_subjects { "hashed" } else { "plain" }.to_owned()),
            metrics_listen: match config.metrics {
                MetricsAt::Loopback => None,
                MetricsAt::Address(address) => Some(address.to_string()),
                MetricsAt::Nowhere => Some("off".to_owned()),
            },
            revocations_file: config.revocations_file.clone(),
            connections: u32::try_from(limits.connections).ok(),
            handshake_time: seconds(limits.handshake_time),
            head_time: seconds(limits.head_time),
            ping_time: seconds(limits.ping_time),
            connection_time: seconds(limits.connection_time),
            ending_time: seconds(limits.ending_time),
        }
    }
}
