//! From settings as they are written to those in force: whatever contradicts itself is found here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign_issuer::{KekSource, ParseError, RingConfig, Slot};

use super::written::Settings;
use super::{Config, ConfigError, MetricsAt, TlsFiles, invalid, is_loopback};
use crate::audit::WhenFull;
use crate::place::RingPlace;
use crate::serve::ConnectionLimits;
use crate::{metadata, signed};

/// A client in good faith fails once or twice when a key of its is exchanged; a site has some dozen of them.
const FAILED_AUTHENTICATIONS: u32 = 60;

impl Settings {
    /// With the defaults of what is not there.
    pub(super) fn check(self) -> Result<Config, ConfigError> {
        let ring = self.ring()?;
        let limits = self.limits()?;
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:8080");
        let listen = listen.parse().map_err(|_| invalid("`listen` is no address with a port"))?;
        let plain_http = self.plain_http.unwrap_or_default();
        let tls = tls(self.tls_certificate_file, self.tls_key_file, self.client_ca_file)?;
        check_transport(&listen, tls.is_some(), plain_http)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let issuer = self.issuer.unwrap_or_else(|| format!("{scheme}://{listen}"));
        check_names(&issuer, self.base_url.as_deref())?;
        let store = self.store.as_deref().map(store).transpose()?;
        let kek = self.kek.unwrap_or_default();
        check_kek(&kek, store.is_some())?;
        Ok(Config {
            issuer,
            base_url: self.base_url,
            listen,
            tls,
            plain_http,
            directory: self.directory.unwrap_or_else(|| PathBuf::from("countersign-data")),
            store,
            kek,
            kek_group_may_read: self.kek_group_may_read.unwrap_or(false),
            policy_file: self.policy_file,
            secret_key_file: self.secret_key_file,
            ring,
            failed_authentications: self.failed_authentications.unwrap_or(FAILED_AUTHENTICATIONS),
            limits,
            audit_file: self.audit_file,
            audit_when_full: when_full(self.audit_when_full.as_deref())?,
            hashes_audit_subjects: hashes_subjects(self.audit_subjects.as_deref())?,
            metrics: metrics(self.metrics_listen.as_deref(), &listen)?,
            revocations_file: self.revocations_file,
        })
    }

    fn ring(&self) -> Result<RingConfig, ConfigError> {
        let usual = ["ES256".to_owned()];
        let slots = self.slots.as_deref().unwrap_or(&usual).iter().map(|text| text.parse());
        let slots = slots.collect::<Result<Vec<Slot>, _>>();
        let mut ring = RingConfig::new(slots.map_err(|error: ParseError| invalid(format!("`slots`: {error}")))?);
        set(&mut ring.timing.max_lifetime, self.max_lifetime);
        set(&mut ring.timing.rotation, self.rotation);
        set(&mut ring.timing.overlap, self.overlap);
        set(&mut ring.timing.max_age, self.max_age);
        set(&mut ring.timing.intermediary, self.intermediary);
        set(&mut ring.timing.clock_error, self.clock_error);
        ring.check().map_err(|error| invalid(error.to_string()))?;
        Ok(ring)
    }

    fn limits(&self) -> Result<ConnectionLimits, ConfigError> {
        let mut limits = ConnectionLimits::default();
        if let Some(connections) = self.connections {
            limits.connections = connections as usize;
        }
        set(&mut limits.handshake_time, self.handshake_time);
        set(&mut limits.head_time, self.head_time);
        set(&mut limits.ping_time, self.ping_time);
        set(&mut limits.connection_time, self.connection_time);
        set(&mut limits.ending_time, self.ending_time);
        let times = [limits.handshake_time, limits.head_time, limits.ping_time, limits.connection_time];
        if limits.connections == 0 || times.iter().any(Duration::is_zero) {
            let names = "`connections`, `handshake_time`, `head_time`, `ping_time` and `connection_time`";
            return Err(invalid(format!("{names} must be more than 0")));
        }
        Ok(limits)
    }
}

fn set(to: &mut Duration, seconds: Option<u32>) {
    if let Some(seconds) = seconds {
        *to = Duration::from_secs(seconds.into());
    }
}

fn tls(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_authorities: Option<PathBuf>,
) -> Result<Option<TlsFiles>, ConfigError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, client_authorities })),
        (None, None) if client_authorities.is_none() => Ok(None),
        _ => Err(invalid("`tls_certificate_file` and `tls_key_file` go together, and with `client_ca_file`")),
    }
}

fn check_transport(listen: &SocketAddr, has_tls: bool, plain_http: bool) -> Result<(), ConfigError> {
    if plain_http && has_tls {
        return Err(invalid("`plain_http` or TLS, not both"));
    }
    if !has_tls && !plain_http && !listen.ip().is_loopback() {
        return Err(invalid(
            "`listen` is not loopback, so it needs `tls_certificate_file` and `tls_key_file`; or \
             `plain_http = true`, behind a proxy that has TLS",
        ));
    }
    Ok(())
}

/// What the service calls itself, and what its clients know it as.
fn check_names(issuer: &str, base_url: Option<&str>) -> Result<(), ConfigError> {
    let (origin, _) =
        metadata::path_of(issuer).ok_or_else(|| invalid("`issuer` is no https URL without query and fragment"))?;
    if origin.strip_prefix("http://").is_some_and(|host| !is_loopback(host)) {
        return Err(invalid("`issuer` must be an https URL: whoever fetches keys over http takes anybody's"));
    }
    let (name, url) = base_url.map_or_else(|| ("issuer", signed::base_url_of(issuer)), |url| ("base_url", url.into()));
    signed::check_base_url(&url).map_err(|error| invalid(format!("`{name}`: {error}")))
}

/// Where a ring is that is not in the directory.
fn store(text: &str) -> Result<RingPlace, ConfigError> {
    let Ok(place) = text.parse();
    if !matches!(place, RingPlace::S3 { .. }) {
        return Err(invalid("`store` is not like s3://BUCKET/PREFIX; for a directory there is `directory`"));
    }
    place.flaw().map_or(Ok(place), |flaw| Err(invalid(format!("`store`: {flaw}"))))
}

fn check_kek(sources: &[String], has_store: bool) -> Result<(), ConfigError> {
    for source in sources {
        source.parse::<KekSource>().map_err(|error| invalid(format!("`kek`: {error}")))?;
    }
    if has_store && sources.is_empty() {
        return Err(invalid("`store` needs `kek`: all nodes of a ring have the same, and it is not where the ring is"));
    }
    Ok(())
}

fn when_full(text: Option<&str>) -> Result<WhenFull, ConfigError> {
    match text {
        None | Some("block") => Ok(WhenFull::Block),
        Some("drop") => Ok(WhenFull::Drop),
        Some(_) => Err(invalid("`audit_when_full` is neither `block` nor `drop`")),
    }
}

fn hashes_subjects(text: Option<&str>) -> Result<bool, ConfigError> {
    match text {
        None | Some("plain") => Ok(false),
        Some("hashed") => Ok(true),
        Some(_) => Err(invalid("`audit_subjects` is neither `plain` nor `hashed`")),
    }
}

fn metrics(text: Option<&str>, listen: &SocketAddr) -> Result<MetricsAt, ConfigError> {
    match text {
        None => Ok(MetricsAt::Loopback),
        Some("off") => Ok(MetricsAt::Nowhere),
        Some(text) => {
            let address: SocketAddr =
                text.parse().map_err(|_| invalid("`metrics_listen` is no address with a port, nor `off`"))?;
            if address == *listen && address.port() != 0 {
                return Err(invalid("`metrics_listen` is `listen`"));
            }
            Ok(MetricsAt::Address(address))
        }
    }
}
