//! What a service is told that runs by itself: one TOML file, and a variable of the environment for each setting.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign::Algorithm;
use countersign::token::RsaBits;
use countersign_issuer::{RingConfig, Slot};
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

use crate::metadata;
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
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting { name, default, about, kind }
}

/// All of them. Times are whole seconds.
pub const SETTINGS: [Setting; 16] = [
    setting(
        "issuer",
        Kind::Text,
        "http:// and `listen`",
        "the `iss` of all tokens: an https URL; http on loopback only",
    ),
    setting("listen", Kind::Text, "127.0.0.1:8080", "the address and port that is listened on"),
    setting("directory", Kind::Text, "countersign-data", "where the ring, its key-encryption key and the policy are"),
    setting(
        "policy_file",
        Kind::Text,
        "policy.toml in `directory`",
        "who may have what signed; read again when it changes",
    ),
    setting("secret_key_file", Kind::Text, "none", "32 octets or more, which client secrets are hashed under"),
    setting("slots", Kind::Texts, "ES256", "what is signed with: ES256, RS256/4096, or name=RS256/4096"),
    setting("max_lifetime", Kind::Number, "3600", "the longest life of a token"),
    setting("rotation", Kind::Number, "86400", "how long a key signs"),
    setting("overlap", Kind::Number, "86400", "how long a key stays published after that"),
    setting("max_age", Kind::Number, "300", "how long the key set may be kept by those who fetch it"),
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
    setting("connections", Kind::Number, "1024", "connections at once"),
    setting("head_time", Kind::Number, "10", "how long the head of a request may take"),
    setting("connection_time", Kind::Number, "300", "for how long a connection takes requests"),
    setting("ending_time", Kind::Number, "10", "how long requests under way are waited for at the end"),
];

/// A service that runs by itself. [`Config::read`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `iss`.
    pub issuer: String,
    /// What is listened on.
    pub listen: SocketAddr,
    /// Where everything is.
    pub directory: PathBuf,
    /// The policy; `None`: `policy.toml` in the directory, which the first run makes.
    pub policy_file: Option<PathBuf>,
    /// What client secrets are hashed under.
    pub secret_key_file: Option<PathBuf>,
    /// Slots and times of the ring, checked.
    pub ring: RingConfig,
    /// What connections may do.
    pub limits: ConnectionLimits,
}

/// As they are written; those that are not there have their default, or no value.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    issuer: Option<String>,
    listen: Option<String>,
    directory: Option<PathBuf>,
    policy_file: Option<PathBuf>,
    secret_key_file: Option<PathBuf>,
    slots: Option<Vec<String>>,
    max_lifetime: Option<u32>,
    rotation: Option<u32>,
    overlap: Option<u32>,
    max_age: Option<u32>,
    intermediary: Option<u32>,
    clock_error: Option<u32>,
    connections: Option<u32>,
    head_time: Option<u32>,
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
    /// let config = Config::read("slots = [\"ES256\", \"RS256/4096\"]", [("COUNTERSIGN_LISTEN", "127.0.0.1:9000")])?;
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
    /// let config = Config::read("slots = [\"RS256/4096\"]", NONE)?;
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
    fn value(&self, text: &str) -> Result<Value, ConfigError> {
        Ok(match self.kind {
            Kind::Text => Value::String(text.to_owned()),
            Kind::Texts => Value::Array(text.split(',').map(|one| Value::String(one.trim().to_owned())).collect()),
            Kind::Number => {
                let number = text.parse().map_err(|_| invalid(format!("`{}` is no whole number", self.name)))?;
                Value::Integer(number)
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
            listen: Some(config.listen.to_string()),
            directory: Some(config.directory.clone()),
            policy_file: config.policy_file.clone(),
            secret_key_file: config.secret_key_file.clone(),
            slots: Some(config.ring.slots.iter().map(text_of).collect()),
            max_lifetime: seconds(timing.max_lifetime),
            rotation: seconds(timing.rotation),
            overlap: seconds(timing.overlap),
            max_age: seconds(timing.max_age),
            intermediary: seconds(timing.intermediary),
            clock_error: seconds(timing.clock_error),
            connections: u32::try_from(limits.connections).ok(),
            head_time: seconds(limits.head_time),
            connection_time: seconds(limits.connection_time),
            ending_time: seconds(limits.ending_time),
        }
    }

    fn check(self) -> Result<Config, ConfigError> {
        let listen = self.listen.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let listen: SocketAddr = listen.parse().map_err(|_| invalid("`listen` is no address with a port"))?;
        let issuer = self.issuer.unwrap_or_else(|| format!("http://{listen}"));
        let (origin, _) =
            metadata::path_of(&issuer).ok_or_else(|| invalid("`issuer` is no https URL without query and fragment"))?;
        if origin.strip_prefix("http://").is_some_and(|host| !is_loopback(host)) {
            return Err(invalid("`issuer` must be an https URL: whoever fetches keys over http takes anybody's"));
        }
        let slots = self.slots.unwrap_or_else(|| vec!["ES256".to_owned()]);
        let mut ring = RingConfig::new(slots.iter().map(|text| slot(text)).collect::<Result<Vec<_>, _>>()?);
        let set = |to: &mut Duration, seconds: Option<u32>| {
            if let Some(seconds) = seconds {
                *to = Duration::from_secs(seconds.into());
            }
        };
        set(&mut ring.timing.max_lifetime, self.max_lifetime);
        set(&mut ring.timing.rotation, self.rotation);
        set(&mut ring.timing.overlap, self.overlap);
        set(&mut ring.timing.max_age, self.max_age);
        set(&mut ring.timing.intermediary, self.intermediary);
        set(&mut ring.timing.clock_error, self.clock_error);
        ring.check().map_err(|error| invalid(error.to_string()))?;
        let mut limits = ConnectionLimits::default();
        if let Some(connections) = self.connections {
            limits.connections = connections as usize;
        }
        set(&mut limits.head_time, self.head_time);
        set(&mut limits.connection_time, self.connection_time);
        set(&mut limits.ending_time, self.ending_time);
        if limits.connections == 0 || limits.head_time.is_zero() || limits.connection_time.is_zero() {
            return Err(invalid("`connections`, `head_time` and `connection_time` must be more than 0"));
        }
        let directory = self.directory.unwrap_or_else(|| PathBuf::from("countersign-data"));
        let (policy_file, secret_key_file) = (self.policy_file, self.secret_key_file);
        Ok(Config { issuer, listen, directory, policy_file, secret_key_file, ring, limits })
    }
}

/// `ALG`, `ALG/BITS`, or either with `NAME=` in front.
fn slot(text: &str) -> Result<Slot, ConfigError> {
    let wrong = || invalid("one of `slots` is not like ES256, RS256/4096 or name=RS256/4096");
    let (name, key) = text.split_once('=').map_or((None, text), |(name, key)| (Some(name), key));
    let (algorithm, bits) = key.split_once('/').map_or((key, None), |(algorithm, bits)| (algorithm, Some(bits)));
    let algorithm = Algorithm::from_name(algorithm).filter(|one| !one.is_symmetric()).ok_or_else(wrong)?;
    let is_rsa = matches!(algorithm.name().as_bytes(), [b'R' | b'P', b'S', ..]);
    let bits = match (is_rsa, bits) {
        (false, None) => None,
        (true, None | Some("2048")) => Some((RsaBits::B2048, 2_048)),
        (true, Some("3072")) => Some((RsaBits::B3072, 3_072)),
        (true, Some("4096")) => Some((RsaBits::B4096, 4_096)),
        _ => return Err(wrong()),
    };
    let usual = algorithm.name().to_ascii_lowercase();
    let usual = bits.map_or_else(|| usual.clone(), |(_, bits)| format!("{usual}-{bits}"));
    let name = name.map_or(usual, str::to_owned);
    Ok(match bits {
        Some((bits, _)) => Slot::rsa(name, algorithm, bits),
        None => Slot::new(name, algorithm),
    })
}

/// What [`slot`] reads.
fn text_of(slot: &Slot) -> String {
    let Slot { name, algorithm, rsa_bits, .. } = slot;
    let bits = match rsa_bits {
        None => "",
        Some(RsaBits::B2048) => "/2048",
        Some(RsaBits::B3072) => "/3072",
        Some(RsaBits::B4096) => "/4096",
        // None that `slot` makes.
        Some(_) => "/?",
    };
    format!("{name}={}{bits}", algorithm.name())
}

fn is_loopback(host: &str) -> bool {
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
        for (name, value, other) in [
            ("issuer", "'https://a.example'", "https://b.example/x"),
            ("listen", "'127.0.0.1:1'", "[::1]:2"),
            ("directory", "'a'", "b"),
            ("policy_file", "'a'", "b"),
            ("secret_key_file", "'a'", "b"),
            ("slots", "['ES256']", "EdDSA, k=RS256/4096"),
            ("max_lifetime", "60", "61"),
            ("rotation", "90000", "90001"),
            ("overlap", "90000", "90001"),
            ("max_age", "60", "61"),
            ("intermediary", "0", "1"),
            ("clock_error", "1", "2"),
            ("connections", "1", "2"),
            ("head_time", "1", "2"),
            ("connection_time", "1", "2"),
            ("ending_time", "1", "2"),
        ] {
            let file = format!("{name} = {value}");
            let variable = format!("COUNTERSIGN_{}", name.to_ascii_uppercase());
            let by_file = Config::read(&file, NONE).unwrap();
            let by_both = Config::read(&file, [(&*variable, other)]).unwrap();
            assert_ne!(by_file, by_both, "{name}");
            assert_eq!(Config::read("", [(&*variable, other)]).unwrap(), by_both, "{name}");
            assert!(SETTINGS.iter().any(|setting| setting.name == name));
            for config in [by_file, by_both] {
                assert_eq!(Config::read(&config.to_toml(), NONE).unwrap(), config, "{name}");
            }
        }
        assert_eq!(SETTINGS.len(), 16, "each of them is in the table above");
    }

    #[test]
    fn a_file_has_so_many_bytes() {
        let file = |length: usize| format!("#{}", " ".repeat(length - 1));
        assert!(Config::read(&file(MAX_CONFIG_BYTES), NONE).is_ok());
        let error = Config::read(&file(MAX_CONFIG_BYTES + 1), NONE).unwrap_err();
        assert_eq!(error.to_string(), "the file has more than 65536 bytes");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for file in [
            "listen = 8080",
            "listen = '127.0.0.1'",
            "isuer = 'https://a.example'",
            "issuer = 'http://a.example'",
            "issuer = 'http://127.0.0.1.example'",
            "issuer = 'https://a.example?x'",
            "issuer = 'a.example'",
            "slots = []",
            "slots = ['HS256']",
            "slots = ['none']",
            "slots = ['ES256/2048']",
            "slots = ['RS256/1024']",
            "slots = ['ES256', 'ES256']",
            "max_lifetime = 86400",
            "connections = 0",
            "head_time = -1",
            "head_time = 0",
        ] {
            assert!(Config::read(file, NONE).is_err(), "{file}");
        }
        assert!(Config::read("", [("COUNTERSIGN_LISTN", "x")]).is_err());
        assert!(Config::read("", [("COUNTERSIGN_HEAD_TIME", "1s")]).is_err());
        assert!(Config::read("", [("COUNTERSIGN_CONFIG", "x"), ("PATH", "y")]).is_ok());
        for (slot_text, name) in
            [("ES256", "es256"), ("PS384", "ps384-2048"), ("k=RS256/3072", "k"), ("Ed25519", "ed25519")]
        {
            assert_eq!(slot(slot_text).unwrap().name, name);
        }
        for (host, expected) in
            [("localhost:80", true), ("[::1]:80", true), ("[::1]", true), ("127.9.9.9", true), ("10.0.0.1", false)]
        {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
