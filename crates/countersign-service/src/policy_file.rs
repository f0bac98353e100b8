//! The policy of a service that runs by itself: whether it can be put in force, which is found out without starting one.

use std::fmt;
use std::path::Path;

use crate::authenticate::{Authenticator, SecretKey};
use crate::config::Config;
use crate::files::{self, Others};
use crate::policy::{MAX_POLICY_BYTES, Policy, PolicyError};
use crate::service::BuildError;

/// Why a policy cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyFault {
    /// It, or what it needs, cannot be read as it lies there: which file, and why.
    File(Box<str>),
    /// The document.
    Policy(PolicyError),
    /// What a service with these settings would be under it.
    Service(BuildError),
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(text) => f.write_str(text),
            Self::Policy(error) => error.fmt(f),
            Self::Service(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PolicyFault {}

/// The policy in `file`, if a [`Server`](crate::Server) with this `config` would put it in force: who may write it, all of the
/// document, `secret_key_file` and whether the policy needs one, and where keys are fetched from. `policy_file` of `config` is not asked.
/// Blocks. Within a tokio runtime the keys of workload issuers are asked for already.
///
/// # Errors
/// [`PolicyFault`]: the first that a server would stop at.
pub fn check_policy(file: &Path, config: &Config) -> Result<Policy, PolicyFault> {
    let secrets = secret_key(config)?;
    let (_, policy) = load(file, config, secrets.as_ref())?;
    Authenticator::build(&policy, &config.issuer, secrets.as_ref(), None).map_err(PolicyFault::Service)?;
    Ok(policy)
}

/// As a text and checked, as far as nothing has to run. That a key for secrets is missing is said here already, before a ring is begun
/// for a service that cannot be.
pub(crate) fn load(file: &Path, config: &Config, secrets: Option<&SecretKey>) -> Result<(String, Policy), PolicyFault> {
    let text = read(file)?;
    let policy = Policy::parse(&text, &config.ring).map_err(PolicyFault::Policy)?;
    if policy.allows_basic() && secrets.is_none() {
        return Err(PolicyFault::Service(BuildError::NoSecretKey));
    }
    Ok((text, policy))
}

/// The text, whatever it says.
pub(crate) fn read(file: &Path) -> Result<String, PolicyFault> {
    let octets = files::read(file, MAX_POLICY_BYTES, Others::AllRead).map_err(|error| unusable(file, &error))?;
    String::from_utf8(octets.to_vec()).map_err(|_| unusable(file, &"it is no text"))
}

/// What client secrets are hashed under, if there is anything.
pub(crate) fn secret_key(config: &Config) -> Result<Option<SecretKey>, PolicyFault> {
    let read = |file: &Path| SecretKey::read(file).map_err(|error| unusable(file, &error));
    config.secret_key_file.as_deref().map(read).transpose()
}

fn unusable(file: &Path, why: &dyn fmt::Display) -> PolicyFault {
    PolicyFault::File(format!("cannot use {}: {why}", file.display()).into())
}
