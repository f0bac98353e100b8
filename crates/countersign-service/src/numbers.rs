//! What the service does, in numbers, for the recorder of the `metrics` crate. Every label is a name of this program's, or
//! of the configuration's: nobody who asks for something can add one. What is counted with each request was registered
//! before, so that counting is an addition.

use std::collections::HashMap;
#[cfg(unix)]
use std::sync::OnceLock;
use std::time::Duration;

use countersign_issuer::RingConfig;
use http::StatusCode;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

#[cfg(unix)]
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::policy::Denial;

const REQUESTS: &str = "countersign_service_requests_total";
const TOKENS: &str = "countersign_service_tokens_total";
const DENIALS: &str = "countersign_service_denials_total";
const AUTHENTICATIONS: &str = "countersign_service_authentications_total";
const SIGNING: &str = "countersign_service_sign_seconds";
const ORDERS: &str = "countersign_service_orders_total";
const RELOADS: &str = "countersign_service_policy_reloads_total";
const POLICY_LOADED: &str = "countersign_service_policy_loaded_timestamp_seconds";
const POLICY_FAILING: &str = "countersign_service_policy_failing";
const CONNECTIONS: &str = "countersign_service_connections";
const AUDIT_DROPPED: &str = "countersign_service_audit_dropped_total";
const AUDIT_FAILURES: &str = "countersign_service_audit_failures_total";

/// From what an elliptic curve takes to what RSA with 4096 bits does on a machine that has no time.
const SIGNING_BUCKETS: [f64; 12] =
    [25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1.0];

/// First digits of statuses, from 2 on.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// How clients show who they are.
const METHODS: [&str; 6] = [
    "private_key_jwt",
    "signed_request",
    "workload",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "client_secret_basic",
];

/// What becomes of those who are not taken for anybody.
const REFUSALS: [&str; 3] = ["refused", "rate_limited", "unavailable"];

/// Of a service.
pub(crate) struct Numbers {
    /// By the path that the router has.
    requests: HashMap<Box<str>, [Counter; CLASSES.len()]>,
    other_requests: [Counter; CLASSES.len()],
    slots: HashMap<Box<str>, OfSlot>,
    denials: HashMap<&'static str, Counter>,
    authenticated: HashMap<&'static str, Counter>,
    not_authenticated: [Counter; REFUSALS.len()],
    reloads: [Counter; 2],
    policy_loaded: Gauge,
}

struct OfSlot {
    signed: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Numbers {
    /// `paths`: what the router calls each, and what it is called here.
    pub(crate) fn new<'a>(config: &RingConfig, paths: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        describe();
        let classes =
            |route: &str| CLASSES.map(|class| counter!(REQUESTS, "route" => route.to_owned(), "class" => class));
        let authentications = |method: &'static str, result: &'static str| counter!(AUTHENTICATIONS, "method" => method, "result" => result);
        let slot = |name: &str| {
            let of = |result: &'static str| counter!(TOKENS, "slot" => name.to_owned(), "result" => result);
            let seconds = histogram!(SIGNING, "slot" => name.to_owned());
            OfSlot { signed: of("signed"), failed: of("failed"), seconds }
        };
        for order in ["rotate", "emergency", "revoke"] {
            for result in ["done", "failed"] {
                counter!(ORDERS, "order" => order, "result" => result).increment(0);
            }
        }
        audit_dropped(0);
        counter!(AUDIT_FAILURES).increment(0);
        let policy_loaded = gauge!(POLICY_LOADED);
        gauge!(POLICY_FAILING).set(0.0);
        Self {
            requests: paths.into_iter().map(|(path, route)| (path.into(), classes(route))).collect(),
            other_requests: classes("other"),
            slots: config.slots.iter().map(|it| (it.name.as_str().into(), slot(&it.name))).collect(),
            denials: Denial::CODES.into_iter().map(|code| (code, counter!(DENIALS, "code" => code))).collect(),
            authenticated: METHODS.into_iter().map(|method| (method, authentications(method, "accepted"))).collect(),
            not_authenticated: REFUSALS.map(|result| authentications("none", result)),
            reloads: ["accepted", "refused"].map(|result| counter!(RELOADS, "result" => result)),
            policy_loaded,
        }
    }

    pub(crate) fn answered(&self, path: Option<&str>, status: StatusCode) {
        let counters = path.and_then(|path| self.requests.get(path)).unwrap_or(&self.other_requests);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(counter) = counters.get(class) {
            counter.increment(1);
        }
    }

    pub(crate) fn signed(&self, slot: &str, is_signed: bool, time: Duration) {
        let Some(of) = self.slots.get(slot) else { return };
        if is_signed { &of.signed } else { &of.failed }.increment(1);
        of.seconds.record(time.as_secs_f64());
    }

    pub(crate) fn denied(&self, code: &'static str) {
        if let Some(counter) = self.denials.get(code) {
            counter.increment(1);
        }
    }

    /// Somebody was recognised by this method, or was refused with that status.
    pub(crate) fn authenticated(&self, result: Result<&'static str, StatusCode>) {
        match result {
            Ok(method) => {
                if let Some(counter) = self.authenticated.get(method) {
                    counter.increment(1);
                }
            }
            Err(StatusCode::TOO_MANY_REQUESTS) => self.not_authenticated[1].increment(1),
            Err(status) if status.is_server_error() => self.not_authenticated[2].increment(1),
            Err(_) => self.not_authenticated[0].increment(1),
        }
    }

    /// A policy is in force from now on, or was refused.
    pub(crate) fn reloaded(&self, is_accepted: bool) {
        self.reloads[usize::from(!is_accepted)].increment(1);
        if is_accepted {
            self.loaded();
        }
    }

    /// The policy in force is as of now.
    pub(crate) fn loaded(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.policy_loaded.set(now.as_secs_f64());
    }
}

pub(crate) fn ordered(order: &'static str, is_done: bool) {
    let result = if is_done { "done" } else { "failed" };
    counter!(ORDERS, "order" => order, "result" => result).increment(1);
}

/// Whether what is in the file of the policy is not what is in force.
pub(crate) fn policy_failing(is_so: bool) {
    gauge!(POLICY_FAILING).set(f64::from(u8::from(is_so)));
}

pub(crate) fn audit_dropped(lines: u64) {
    counter!(AUDIT_DROPPED).increment(lines);
}

pub(crate) fn audit_failed() {
    counter!(AUDIT_FAILURES).increment(1);
}

/// A connection for as long as it is there.
pub(crate) struct Open(Gauge);

impl Open {
    pub(crate) fn new() -> Self {
        let gauge = gauge!(CONNECTIONS);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What can be scraped of this process; `None` if another recorder is installed in it.
#[cfg(unix)]
pub(crate) fn recorder() -> Option<PrometheusHandle> {
    static INSTALLED: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Full(SIGNING.to_owned()), &SIGNING_BUCKETS).ok()?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok().map(|()| handle)
    };
    INSTALLED.get_or_init(install).clone()
}

fn describe() {
    for (name, text) in [
        (REQUESTS, "Requests that were answered, by route and status"),
        (TOKENS, "Tokens that were signed, or could not be"),
        (DENIALS, "What the policy has denied, by its rule"),
        (AUTHENTICATIONS, "Clients that were recognised, or not"),
        (ORDERS, "Orders to the ring that were carried out, or not"),
        (RELOADS, "Editions of the policy that were put in force, or refused"),
        (AUDIT_DROPPED, "Lines that the audit log lacks"),
        (AUDIT_FAILURES, "Writes of the audit log that failed"),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
    describe_histogram!(SIGNING, Unit::Seconds, "The time to sign a token, without waits");
    describe_gauge!(POLICY_LOADED, Unit::Seconds, "When the policy in force was put in force");
    describe_gauge!(POLICY_FAILING, Unit::Count, "1 while the file of the policy is not what is in force");
    describe_gauge!(CONNECTIONS, Unit::Count, "Connections that are open");
}
