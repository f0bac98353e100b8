//! What a service is told that runs by itself: one TOML file, and a variable of the environment for each setting.

mod check;
mod environment;
mod setting;
mod written;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use countersign_issuer::RingConfig;
use serde::{Deserialize as _, Serialize, Serializer};
use toml::{Table, Value};

use self::written::Settings;
use crate::audit::WhenFull;
use crate::place::RingPlace;
use crate::serve::ConnectionLimits;

pub use self::environment::ENVIRONMENT_PREFIX;
pub use self::setting::{SETTINGS, Setting};

/// The longest file, bytes: some dozen settings and what is written beside them.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

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
        environment::prevail(&mut table, environment)?;
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
mod tests;
