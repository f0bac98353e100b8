//! What the environment says over the file.

use toml::Table;

use super::setting::SETTINGS;
use super::{ConfigError, invalid};

/// What the variables of the environment begin with; behind it stands the name of a setting in capitals.
pub const ENVIRONMENT_PREFIX: &str = "COUNTERSIGN_";

/// Puts what those of the variables say that are settings in place of what `file` says.
pub(super) fn prevail<N: AsRef<str>, V: AsRef<str>>(
    file: &mut Table,
    variables: impl IntoIterator<Item = (N, V)>,
) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let Some(name) = name.as_ref().strip_prefix(ENVIRONMENT_PREFIX).filter(|name| *name != "CONFIG") else {
            continue;
        };
        let setting = SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name));
        if setting.is_none() && is_service_link(name, value.as_ref()) {
            continue;
        }
        let setting = setting.ok_or_else(|| invalid(format!("{ENVIRONMENT_PREFIX}{name}: no such setting")))?;
        file.insert(setting.name.to_owned(), setting.value(value.as_ref())?);
    }
    Ok(())
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
