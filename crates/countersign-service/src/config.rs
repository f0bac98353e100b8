//! What a service is told that runs by itself: one TOML file, and a variable of the environment for each setting.

mod check;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign_issuer::RingConfig;
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

use crate::audit::WhenFull;
use crate::place::RingPlace;
use crate::serve::ConnectionLimits;

/// The longest file, bytes: some dozen settings and what is written beside them.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// What the variables of the environment begin with; behind it stands the name of a setting in capitals.
pub const ENVIRONMENT_PREFIX: &str = "COUNTERSIGN_";

/// A setting.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is if nobody says.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    /// In the environment with commas between them.
    Texts,
    Number,
    /// `true` or `false`.
    Flag,
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting { name, default, about, kind }
}

/// All of them, in the order in which they are shown; `CONFIGURATION.md` has them from here. Times are whole seconds.
pub const SETTINGS: &[Setting] = &[
    setting(
        "issuer",
        Kind::Text,
        "https:// and `listen`, or http:// without TLS",
        "the `iss` of all tokens: an https URL; http on loopback only",
    ),
    setting(
        "base_url",
        Kind::Text,
        "scheme, host and port of `issuer`",
        "what the URLs of this service begin with, as its clients see them and sign requests for them",
    ),
    setting("listen", Kind::Text, "127.0.0.1:8080", "the address and port that is listened on"),
    setting(
        "tls_certificate_file",
        Kind::Text,
        "none",
        "the service's certificate and those between it and its authority (PEM); read again when it changes",
    ),
    setting("tls_key_file", Kind::Text, "none", "the private key of the certificate (PEM), which others may not read"),
    setting(
        "client_ca_file",
        Kind::Text,
        "none",
        "who vouches for the certificates of clients (PEM); read again when it changes",
    ),
    setting(
        "plain_http",
        Kind::Flag,
        "false",
        "listen without TLS on an address that is not loopback: behind a proxy that has TLS",
    ),
    setting("directory", Kind::Text, "countersign-data", "where the ring, its key-encryption key and the policy are"),
    setting("store", Kind::Text, "ring in `directory`", "where the ring is instead: s3://BUCKET/PREFIX, as AWS_… say"),
    setting(
        "kek",
        Kind::Texts,
        "file: and kek in `directory`",
        "what private keys are sealed under: file:PATH, env:NAME or command:PROGRAM ARGUMENTS; the first seals, the others open",
    ),
    setting("kek_group_may_read", Kind::Flag, "false", "whether the group of a file of `kek` may read it (0640)"),
    setting(
        "policy_file",
        Kind::Text,
        "policy.toml in `directory`",
        "who may have what signed; read again when it changes",
    ),
    setting(
        "secret_key_file",
        Kind::Text,
        "none",
        "32 octets or more, which client secrets are hashed under; printable text without the white space around it, or all octets",
    ),
    setting("slots", Kind::Texts, "ES256", "what is signed with: ES256, RS256:4096, or name=RS256:4096"),
    setting("max_lifetime", Kind::Number, "3600", "the longest life of a token"),
    setting("rotation", Kind::Number, "86400", "how long a key signs"),
    setting("overlap", Kind::Number, "86400", "how long a key stays published after that"),
    setting(
        "max_age",
        Kind::Number,
        "300",
        "how long the key set may be kept by those who fetch it; countersign's verifiers keep it for 60 at least",
    ),
    setting(
        "intermediary",
        Kind::Number,
        "300",
        "how much longer caches between them and here may keep it; 0 if there are none",
    ),
    setting(
        "clock_error",
        Kind::Number,
        "30",
        "how far any two clocks may be apart, here and where tokens are verified",
    ),
    setting(
        "failed_authentications",
        Kind::Number,
        "60",
        "how many times a minute an address is told that its credentials are not good; 0: no limit, as for a proxy's",
    ),
    setting(
        "audit_file",
        Kind::Text,
        "none",
        "where each decision is written down, in lines that follow from each other",
    ),
    setting(
        "audit_when_full",
        Kind::Text,
        "block",
        "what becomes of a token that cannot be written down: block (503), or drop (it is signed, and counted)",
    ),
    setting(
        "audit_subjects",
        Kind::Text,
        "plain",
        "how `sub` is written down: plain, or hashed (under audit-subjects.key in `directory`)",
    ),
    setting(
        "metrics_listen",
        Kind::Text,
        "`listen`, if that and `issuer` are on loopback, else off",
        "where /metrics is served: an address and port of its own, or off",
    ),
    setting("revocations_file", Kind::Text, "none", "where revoked keys are told to verifiers that follow that file"),
    setting("connections", Kind::Number, "1024", "connections at once"),
    setting("handshake_time", Kind::Number, "10", "how long a TLS handshake may take"),
    setting("head_time", Kind::Number, "10", "how long the head of a request may take"),
    setting(
        "ping_time",
        Kind::Number,
        "10",
        "how long a client of HTTP/2 may take to say that it is still there, which it is asked twice as seldom",
    ),
    setting("connection_time", Kind::Number, "300", "for how long a connection takes requests"),
    setting(
        "ending_time",
        Kind::Number,
        "10",
        "how long requests under way are waited for at the end, and then as long again the ring, whose keys are not to be lost half made",
    ),
];

/// A service that runs by itself. [`Config::read`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `iss`.
    pub issuer: String,
    /// What the URLs of this service begin with, for those who sign requests; `None`: scheme, host and port of the issuer.
    pub base_url: Option<String>,
    /// What is listened on.
    pub listen: SocketAddr,
    /// Where what TLS needs is; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether plain HTTP is meant to be heard from elsewhere: there is a proxy in front.
    pub plain_http: bool,
    /// Where everything is.
    pub directory: PathBuf,
    /// Where the ring is; `None`: `ring` in the directory.
    pub store: Option<RingPlace>,
    /// What private keys are sealed under, each as [`KekSource`](countersign_issuer::KekSource) reads it; none: the file `kek` in the directory, which the
    /// first run makes.
    pub kek: Vec<String>,
    /// Whether the group of such a file may read it.
    pub kek_group_may_read: bool,
    /// The policy; `None`: `policy.toml` in the directory, which the first run makes.
    pub policy_file: Option<PathBuf>,
    /// What client secrets are hashed under.
    pub secret_key_file: Option<PathBuf>,
    /// Slots and times of the ring, checked.
    pub ring: RingConfig,
    /// How many times a minute an address is told that its credentials are not good; 0: always.
    pub failed_authentications: u32,
    /// What connections may do.
    pub limits: ConnectionLimits,
    /// Where each decision is written down; `None`: nowhere.
    pub audit_file: Option<PathBuf>,
    /// What becomes of a token that cannot be.
    pub audit_when_full: WhenFull,
    /// Whether the audit log has hashes in place of subjects.
    pub hashes_audit_subjects: bool,
    /// Where `/metrics` is served.
    pub metrics: MetricsAt,
    /// Where verifiers hear of revoked keys that follow a file; `None`: from the key set only.
    pub revocations_file: Option<PathBuf>,
}

/// Where `/metrics` is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricsAt {
    /// Beside everything else, if that and the issuer are on loopback; otherwise nowhere: what a service does is not the
    /// world's to know, and something on loopback with an issuer that is not has a proxy in front, which hands on whatever
    /// is asked.
    #[default]
    Loopback,
    /// Here, and nothing else is.
    Address(SocketAddr),
    /// Nowhere.
    Nowhere,
}

/// Where what TLS needs is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// A chain in PEM.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who vouches for clients.
    pub client_authorities: Option<PathBuf>,
}

/// As they are written; those that are not there have their default, or no value.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    issuer: Option<String>,
    base_url: Option<String>,
    listen: Option<String>,
    tls_certificate_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    plain_http: Option<bool>,
    directory: Option<PathBuf>,
    store: Option<String>,
    kek: Option<Vec<String>>,
    kek_group_may_read: Option<bool>,
    policy_file: Option<PathBuf>,
    secret_key_file: Option<PathBuf>,
    slots: Option<Vec<String>>,
    max_lifetime: Option<u32>,
    rotation: Option<u32>,
    overlap: Option<u32>,
    max_age: Option<u32>,
    intermediary: Option<u32>,
    clock_error: Option<u32>,
    failed_authentications: Option<u32>,
    audit_file: Option<PathBuf>,
    audit_when_full: Option<String>,
    audit_subjects: Option<String>,
    metrics_listen: Option<String>,
    revocations_file: Option<PathBuf>,
    connections: Option<u32>,
    handshake_time: Option<u32>,
    head_time: Option<u32>,
    ping_time: Option<u32>,
    connection_time: Option<u32>,
    ending_time: Option<u32>,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Box<str>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `file`, over which variables of `environment` whose names begin with [`ENVIRONMENT_PREFIX`] prevail; both may
    /// be empty. `COUNTERSIGN_CONFIG`, which says where the file is, is left to whoever reads that.
    ///
    /// # Errors
    /// [`ConfigError`]: an unknown setting, in either, one that does not make sense, or times that contradict each other.
    ///
    /// ```
    /// use countersign_service::Config;
    ///
    /// let config = Config::read("slots = [\"ES256\", \"RS256:4096\"]", [("COUNTERSIGN_LISTEN", "127.0.0.1:9000")])?;
    /// assert_eq!(config.issuer, "http://127.0.0.1:9000");
    /// assert_eq!(config.ring.slots[1].name, "rs256-4096");
    /// # Ok::<(), countersign_service::ConfigError>(())
    /// ```
    pub fn read<N: AsRef<str>, V: AsRef<str>>(
        file: &str,
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        if file.len() > MAX_CONFIG_BYTES {
            return Err(invalid(format!("the file has more than {MAX_CONFIG_BYTES} bytes")));
        }
        let mut table: Table = file.parse().map_err(|error: toml::de::Error| invalid(error.message()))?;
        for (name, value) in environment {
            let Some(name) = name.as_ref().strip_prefix(ENVIRONMENT_PREFIX).filter(|name| *name != "CONFIG") else {
                continue;
            };
            let setting = SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name));
            if setting.is_none() && is_service_link(name, value.as_ref()) {
                continue;
            }
            let setting = setting.ok_or_else(|| invalid(format!("{ENVIRONMENT_PREFIX}{name}: no such setting")))?;
            table.insert(setting.name.to_owned(), setting.value(value.as_ref())?);
        }
        Settings::deserialize(Value::Table(table)).map_err(|error| invalid(error.message()))?.check()
    }

    /// All settings as they are in force: a file that says the same, with what each is for. One that has no value stands in a comment.
    ///
    /// ```
    /// use countersign_service::Config;
    ///
    /// const NONE: [(&str, &str); 0] = [];
    /// let config = Config::read("slots = [\"RS256:4096\"]", NONE)?;
    /// assert_eq!(Config::read(&config.to_toml(), NONE)?, config);
    /// # Ok::<(), countersign_service::ConfigError>(())
    /// ```
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Texts and numbers, which TOML has all of.
        let values = Table::try_from(self).unwrap_or_default();
        let line = |Setting { name, default, about, .. }: &Setting| match values.get(*name) {
            Some(value) => format!("# {about}\n{name} = {value}\n"),
            None => format!("# {about}\n# {name}: {default}\n"),
        };
        SETTINGS.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// As the settings that are in force.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Settings::of(self).serialize(serializer)
    }
}

impl Setting {
    /// What it is in the file.
    #[must_use]
    pub const fn form(&self) -> &'static str {
        match self.kind {
            Kind::Text => "text",
            Kind::Texts => "list of texts",
            Kind::Number => "whole number",
            Kind::Flag => "`true` or `false`",
        }
    }

    fn value(&self, text: &str) -> Result<Value, ConfigError> {
        Ok(match self.kind {
            Kind::Text => Value::String(text.to_owned()),
            Kind::Texts => Value::Array(text.split(',').map(|one| Value::String(one.trim().to_owned())).collect()),
            Kind::Number => {
                let number = text.parse().map_err(|_| invalid(format!("`{}` is no whole number", self.name)))?;
                Value::Integer(number)
            }
            Kind::Flag => {
                let flag = text.parse().map_err(|_| invalid(format!("`{}` is neither true nor false", self.name)))?;
                Value::Boolean(flag)
            }
        })
    }
}

impl Settings {
    fn of(config: &Config) -> Self {
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

/// Whether Kubernetes has put it there, as it does for each Service of a pod's namespace (`COUNTERSIGN_SERVICE_HOST` and
/// `COUNTERSIGN_PORT_443_TCP` for one that is called `countersign`): no setting that somebody has misspelt.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_link = |text: &str| {
        let rest = ["tcp://", "udp://", "sctp://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
        rest.and_then(|rest| rest.rsplit_once(':')).is_some_and(|(_, port)| is_number(port))
    };
    // Of a Service with a longer name, there is more in front.
    let behind = |part: &str| name.starts_with(part) || name.contains(&format!("_{part}"));
    match name.rsplit_once('_').map_or(name, |(_, last)| last) {
        "HOST" => name == "SERVICE_HOST" || name.ends_with("_SERVICE_HOST"),
        _ if behind("SERVICE_PORT") => is_number(value),
        "PORT" => is_link(value) || behind("PORT_") && is_number(value),
        "TCP" | "UDP" | "SCTP" => behind("PORT_") && is_link(value),
        "PROTO" => behind("PORT_") && ["tcp", "udp", "sctp"].contains(&value),
        "ADDR" => behind("PORT_") && value.parse::<std::net::IpAddr>().is_ok(),
        _ => false,
    }
}

/// Whether a host, with its port if there is one, is this machine whatever resolves names.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn invalid(text: impl Into<Box<str>>) -> ConfigError {
    ConfigError(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const NONE: [(&str, &str); 0] = [];

    #[test]
    fn nothing_at_all_is_a_configuration_for_one_machine() {
        let config = Config::read("", NONE).unwrap();
        assert_eq!((&*config.issuer, config.directory.to_str()), ("http://127.0.0.1:8080", Some("countersign-data")));
        assert_eq!((config.ring.slots.len(), &*config.ring.slots[0].name), (1, "es256"));
        assert_eq!(config.limits, ConnectionLimits::default());
        for setting in SETTINGS {
            assert!(!setting.default.is_empty() && !setting.about.is_empty(), "{setting:?}");
        }
    }

    #[test]
    fn each_setting_can_be_given_in_the_file_and_in_the_environment_which_prevails() {
        let mut tried = BTreeSet::new();
        for (name, value, other) in [
            ("issuer", "'https://a.example'", "https://b.example/x"),
            ("base_url", "'https://a.example'", "https://b.example:8443"),
            ("listen", "'127.0.0.1:1'", "[::1]:2"),
            ("directory", "'a'", "b"),
            ("kek", "['env:A']", "file:/a b, env:B"),
            ("kek_group_may_read", "false", "true"),
            ("policy_file", "'a'", "b"),
            ("secret_key_file", "'a'", "b"),
            ("slots", "['ES256']", "EdDSA, k=RS256:4096"),
            ("max_lifetime", "60", "61"),
            ("rotation", "90000", "90001"),
            ("overlap", "90000", "90001"),
            ("max_age", "60", "61"),
            ("intermediary", "0", "1"),
            ("clock_error", "1", "2"),
            ("plain_http", "true", "false"),
            ("failed_authentications", "0", "2"),
            ("audit_file", "'a'", "b"),
            ("audit_when_full", "'block'", "drop"),
            ("audit_subjects", "'plain'", "hashed"),
            ("metrics_listen", "'127.0.0.1:9'", "off"),
            ("revocations_file", "'a'", "b"),
            ("connections", "1", "2"),
            ("handshake_time", "1", "2"),
            ("head_time", "1", "2"),
            ("ping_time", "1", "2"),
            ("connection_time", "1", "2"),
            ("ending_time", "1", "2"),
        ] {
            let file = format!("{name} = {value}");
            let variable = format!("COUNTERSIGN_{}", name.to_ascii_uppercase());
            let by_file = Config::read(&file, NONE).unwrap();
            let by_both = Config::read(&file, [(&*variable, other)]).unwrap();
            assert_ne!(by_file, by_both, "{name}");
            assert_eq!(Config::read("", [(&*variable, other)]).unwrap(), by_both, "{name}");
            assert!(tried.insert(name));
            for config in [by_file, by_both] {
                assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config, "{name}");
            }
        }
        #[cfg(feature = "s3")]
        {
            let kek = ("COUNTERSIGN_KEK", "env:A");
            let config = Config::read("store = 's3://rings/prod/'", [kek]).unwrap();
            assert_eq!(config.store, Some("s3://rings/prod".parse().unwrap()));
            assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config);
            assert_eq!(Config::read("", [("COUNTERSIGN_STORE", "s3://rings/prod"), kek]).unwrap(), config);
        }
        // Those that go together only, above and in the test below.
        let together = ["store", "tls_certificate_file", "tls_key_file", "client_ca_file"];
        let all = SETTINGS.iter().map(|setting| setting.name).filter(|name| !together.contains(name));
        assert_eq!(all.collect::<BTreeSet<_>>(), tried, "each of them is in the table above");
    }

    #[test]
    fn tls_needs_both_of_its_files_and_makes_the_issuer_https() {
        let file = "listen = '0.0.0.0:443'\ntls_certificate_file = 'c'\ntls_key_file = 'k'\nclient_ca_file = 'a'";
        let config = Config::read(file, NONE).unwrap();
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(config.issuer, "https://0.0.0.0:443");
        assert_eq!((&tls.certificate, &tls.key), (&PathBuf::from("c"), &PathBuf::from("k")));
        assert_eq!(tls.client_authorities, Some(PathBuf::from("a")));
        assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config);
        for name in ["TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "CLIENT_CA_FILE"] {
            let other = Config::read(file, [(format!("COUNTERSIGN_{name}"), "other")]).unwrap();
            assert_ne!(other, config, "{name}");
            assert_eq!(Config::read(&other.to_toml(), NONE).unwrap(), other);
        }
    }

    #[test]
    fn without_tls_nobody_elsewhere_is_listened_to_unless_that_is_said() {
        for listen in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[2001:db8::1]:80"] {
            let file = format!("listen = '{listen}'\nissuer = 'https://a.example'\n");
            assert!(Config::read(&file, NONE).unwrap_err().to_string().contains("plain_http"), "{listen}");
            assert!(Config::read(&file, [("COUNTERSIGN_PLAIN_HTTP", "true")]).unwrap().tls.is_none());
        }
        for listen in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
            assert!(Config::read(&format!("listen = '{listen}'"), NONE).is_ok(), "{listen}");
        }
    }

    #[test]
    fn a_file_has_so_many_bytes() {
        let file = |length: usize| format!("#{}", " ".repeat(length - 1));
        assert!(Config::read(&file(MAX_CONFIG_BYTES), NONE).is_ok());
        let error = Config::read(&file(MAX_CONFIG_BYTES + 1), NONE).unwrap_err();
        assert_eq!(error.to_string(), "the file has more than 65536 bytes");
    }

    #[test]
    fn what_kubernetes_says_of_a_service_of_this_name_is_no_setting() {
        let links = [
            ("COUNTERSIGN_SERVICE_HOST", "10.0.0.7"),
            ("COUNTERSIGN_SERVICE_PORT", "443"),
            ("COUNTERSIGN_SERVICE_PORT_HTTPS", "443"),
            ("COUNTERSIGN_PORT", "tcp://10.0.0.7:443"),
            ("COUNTERSIGN_PORT_443_TCP", "tcp://10.0.0.7:443"),
            ("COUNTERSIGN_PORT_443_TCP_PROTO", "tcp"),
            ("COUNTERSIGN_PORT_443_TCP_PORT", "443"),
            ("COUNTERSIGN_PORT_443_TCP_ADDR", "10.0.0.7"),
            ("COUNTERSIGN_API_SERVICE_HOST", "fd00::7"),
            ("COUNTERSIGN_API_PORT_443_TCP", "tcp://[fd00::7]:443"),
        ];
        assert_eq!(Config::read("", links), Config::read("", NONE));
        for (name, value) in [("PORT", "443"), ("HOST", "10.0.0.7"), ("SERVICE_PORT", "x"), ("LISTEN_ADDR", "10.0.0.7")]
        {
            assert!(Config::read("", [(format!("COUNTERSIGN_{name}"), value)]).is_err(), "{name}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for file in [
            "tls_certificate_file = 'a'",
            "tls_key_file = 'a'",
            "client_ca_file = 'a'",
            "tls_key_file = 'a'\nclient_ca_file = 'a'",
            "plain_http = true\ntls_certificate_file = 'a'\ntls_key_file = 'a'",
            "plain_http = 1",
            "handshake_time = 0",
            "listen = 8080",
            "listen = '127.0.0.1'",
            "isuer = 'https://a.example'",
            "issuer = 'http://a.example'",
            "issuer = 'http://127.0.0.1.example'",
            "issuer = 'https://a.example?x'",
            "issuer = 'a.example'",
            "base_url = 'a.example'",
            "base_url = 'https://A.example'",
            "base_url = 'https://a.example/?x'",
            "listen = '127.0.0.1:0'",
            "slots = []",
            "slots = ['HS256']",
            "slots = ['none']",
            "slots = ['ES256:2048']",
            "slots = ['RS256:1024']",
            "slots = ['ES256', 'ES256']",
            "slots = ['RS256/4096']",
            "store = 's3://rings'",
            "store = 's3://Rings'\nkek = ['env:A']",
            "store = 'gs://rings'\nkek = ['env:A']",
            "store = '/rings'\nkek = ['env:A']",
            "kek = ['/run/secrets/kek']",
            "kek = 'env:A'",
            "kek_group_may_read = 'yes'",
            "max_lifetime = 86400",
            "audit_when_full = 'fail'",
            "audit_subjects = ''",
            "metrics_listen = 'on'",
            "metrics_listen = '127.0.0.1'",
            "metrics_listen = '127.0.0.1:8080'",
            "audit = 'a'",
            "connections = 0",
            "head_time = -1",
            "head_time = 0",
            "ping_time = 0",
        ] {
            assert!(Config::read(file, NONE).is_err(), "{file}");
        }
        assert!(Config::read("", [("COUNTERSIGN_LISTN", "x")]).is_err());
        assert!(Config::read("", [("COUNTERSIGN_HEAD_TIME", "1s")]).is_err());
        assert!(Config::read("", [("COUNTERSIGN_PLAIN_HTTP", "yes")]).is_err());
        assert!(Config::read("", [("COUNTERSIGN_CONFIG", "x"), ("PATH", "y")]).is_ok());
        for (host, expected) in
            [("localhost:80", true), ("[::1]:80", true), ("[::1]", true), ("127.9.9.9", true), ("10.0.0.1", false)]
        {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
