//! `countersign policy`: who may have which tokens signed, asked before anybody does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use countersign::{Clock as _, SystemClock, UnixTime};
use countersign_service::policy::{
    AdminRight, Confirmation, Denied, Granted, MAX_POLICY_BYTES, Policy, Request, decide, decide_admin, is_name,
};
use countersign_service::{ClientSecret, PolicyFault, SecretKey, check_policy, write_new};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::config::Source;
use crate::exit::{self, Answer, Exit, Failure};
use crate::input;
use crate::output::{Screen, shown};

#[derive(Args)]
pub(crate) struct Rules {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whether a policy can be put in force, as a whole, by a service with these settings.
    ///
    /// Also who else may write it, and whether the settings have what it needs: all that `serve` would refuse it for.
    #[command(after_help = exit::HELP)]
    Check(Document),
    /// What a client would be answered, and by which grant, or whether it has a right over the ring. Signs nothing.
    #[command(after_help = exit::HELP)]
    Explain(Explain),
    /// A new secret for a client that can do no better, and the line for it in the policy, which has only what it is hashed to.
    ///
    /// The secret is shown this once and kept nowhere. It is taken by services with the same `secret_key_file` whose policy says
    /// `allow_client_secret_basic = true`, as the password of `Basic` credentials (RFC 6749 section 2.3.1).
    #[command(after_help = exit::HELP)]
    Secret(Secret),
}

#[derive(Args)]
struct Secret {
    /// Whose it is to be, by the name that the policy has for it. It is no other client's.
    #[arg(long, value_name = "NAME", value_parser = client_name)]
    client: String,

    /// Where to write it, in place of standard output: a file that is not there yet, which nobody else may read (0600).
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    settings: Source,
}

#[derive(Serialize)]
struct Made<'a> {
    client: &'a str,
    /// None where it was written to a file.
    secret: Option<&'a str>,
    /// For `secrets` of the policy.
    hashed: &'a str,
}

#[derive(Args)]
struct Document {
    /// The policy (TOML).
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    settings: Source,
}

#[derive(Args)]
struct Explain {
    #[command(flatten)]
    document: Document,

    /// Who asks, by the name that the policy has for it.
    #[arg(long, value_name = "NAME")]
    client: String,

    /// What it asks for, as `POST /v1/tokens` has it (JSON); `-` or none: it is read from standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    request: PathBuf,

    /// Whether it has this right over the ring, in place of what it asks for: `keys:read`, `keys:rotate` or `keys:revoke`.
    #[arg(long, value_name = "RIGHT", value_parser = right, conflicts_with = "request")]
    admin: Option<AdminRight>,

    /// `x5t#S256` of the certificate that it shows, if any.
    #[arg(long, value_name = "SHA256")]
    certificate: Option<String>,

    /// The time to judge it by, seconds since 1970, in place of the clock's.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
}

#[derive(Serialize)]
struct Checked<'a> {
    good: bool,
    revision: &'a str,
    clients: Vec<&'a str>,
    /// Who has rights over the ring, and which.
    admin: BTreeMap<&'a str, Vec<&'static str>>,
}

#[derive(Serialize)]
struct Allowed<'a> {
    granted: bool,
    grant: &'a str,
    slot: &'a str,
    alg: &'static str,
    key_bits: Option<u32>,
    lifetime_seconds: u64,
    max_token_bytes: usize,
    cnf: Option<&'a Confirmation>,
}

#[derive(Serialize)]
struct Forbidden<'a> {
    granted: bool,
    error: &'static str,
    grant: Option<&'a str>,
    message: String,
}

impl Rules {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        match self.command {
            Command::Check(document) => {
                let policy = document.check()?;
                let (revision, clients) = (policy.revision(), policy.clients().collect::<Vec<_>>());
                let named = if revision.is_empty() { String::new() } else { format!(", revision {}", shown(revision)) };
                let mut text = format!("good: {} clients{named}\n", clients.len());
                let admin = administrators(&policy);
                text.extend(admin.iter().map(|(client, rights)| format!("  {client}: {}\n", rights.join(", "))));
                Ok(Answer::new(Exit::Good, text, &Checked { good: true, revision, clients, admin }))
            }
            Command::Explain(explain) => explain.run(screen),
            Command::Secret(secret) => secret.run(),
        }
    }
}

impl Document {
    /// All that `serve` would ask.
    fn check(&self) -> Result<Policy, Failure> {
        check_policy(&self.file, &self.settings.needed()?).map_err(|fault| match fault {
            PolicyFault::File(_) => Failure::unavailable("policy_unusable", fault.to_string()),
            fault => Failure::refused("policy_invalid", fault.to_string()),
        })
    }

    /// The document alone, which may be somewhere else than where it is to be in force.
    fn read(&self) -> Result<Policy, Failure> {
        let settings = self.settings.needed()?;
        let text = input::text(Path::new(&self.file), "the policy", MAX_POLICY_BYTES)?;
        Policy::parse(&text, &settings.ring).map_err(|error| Failure::refused("policy_invalid", error.to_string()))
    }
}

impl Secret {
    fn run(self) -> Result<Answer, Failure> {
        let settings = self.settings.needed()?;
        let file = settings.secret_key_file.as_deref();
        let file =
            file.ok_or_else(|| Failure::usage("the settings have no `secret_key_file` to hash secrets under"))?;
        let key = SecretKey::read(file).map_err(|error| {
            Failure::unavailable("secret_key_unusable", format!("cannot use {}: {error}", file.display()))
        })?;
        let made = ClientSecret::generate(&self.client, &key);
        let made = made.map_err(|_| Failure::unavailable("no_randomness", "there is no randomness to be had"))?;
        let mut text = String::new();
        match &self.output {
            Some(output) => write_line(output, made.secret())?,
            None => text += &format!("secret, for the client: {}\n", made.secret()),
        }
        text += &format!("[clients.\"{}\"]\nsecrets = [\"{}\"]\n", self.client, made.hashed());
        let secret = self.output.is_none().then(|| made.secret());
        Ok(Answer::new(Exit::Good, text, &Made { client: &self.client, secret, hashed: made.hashed() }))
    }
}

/// One line, in a file of its owner's that was not there before.
fn write_line(path: &Path, line: &str) -> Result<(), Failure> {
    write_new(path, Zeroizing::new(format!("{line}\n")).as_bytes()).map_err(|error| {
        Failure::unavailable("cannot_write", format!("cannot write {}: {}", path.display(), error.kind()))
    })
}

impl Explain {
    fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let policy = self.document.read()?;
        let now = self.now.map_or_else(|| SystemClock.now(), UnixTime::from_secs);
        if let Some(right) = self.admin {
            return Ok(match decide_admin(&policy, &self.client, right, now) {
                Ok(()) => {
                    let text = format!("granted: {} has the right {right}\n", shown(&self.client));
                    Answer::new(Exit::Good, text, &json!({ "granted": true, "right": right.name() }))
                }
                Err(denied) => forbidden(&denied, screen),
            });
        }
        let request = input::document(&self.request, "the request", screen)?;
        let request = Request::from_json(&request);
        let mut request = request.map_err(|error| Failure::refused("invalid_request", error.to_string()))?;
        if let Some(certificate) = self.certificate {
            request = request.shown_certificate(certificate);
        }
        Ok(match decide(&policy, &self.client, &request, now) {
            Ok(granted) => allowed(&granted),
            Err(denied) => forbidden(&denied, screen),
        })
    }
}

fn administrators(policy: &Policy) -> BTreeMap<&str, Vec<&'static str>> {
    let rights = |client| policy.admin_rights(client).map(AdminRight::name).collect::<Vec<_>>();
    policy.clients().map(|client| (client, rights(client))).filter(|(_, rights)| !rights.is_empty()).collect()
}

fn right(text: &str) -> Result<AdminRight, &'static str> {
    AdminRight::from_name(text).ok_or("a right is keys:read, keys:rotate or keys:revoke")
}

fn client_name(text: &str) -> Result<String, &'static str> {
    let is_fit = is_name(text);
    is_fit.then(|| text.to_owned()).ok_or("a name is 1 to 128 letters, digits, `-`, `.`, `_` or `~`")
}

fn allowed(granted: &Granted) -> Answer {
    let allowed = Allowed {
        granted: true,
        grant: granted.grant(),
        slot: granted.slot(),
        alg: granted.algorithm().name(),
        key_bits: granted.rsa_bits(),
        lifetime_seconds: granted.lifetime().as_secs(),
        max_token_bytes: granted.max_token_bytes(),
        cnf: granted.confirmation(),
    };
    let bound = match allowed.cnf {
        None => "",
        Some(Confirmation::Certificate(_)) => ", bound to the certificate",
        Some(_) => ", bound to the key",
    };
    let bits = allowed.key_bits.map(|bits| format!(" with {bits} bits")).unwrap_or_default();
    let text = format!(
        "granted by {}: {}{bits} of slot {}, for {} s, at most {} bytes{bound}\n",
        shown(allowed.grant),
        allowed.alg,
        shown(allowed.slot),
        allowed.lifetime_seconds,
        allowed.max_token_bytes
    );
    Answer::new(Exit::Good, text, &allowed)
}

fn forbidden(denied: &Denied, screen: &Screen) -> Answer {
    let forbidden =
        Forbidden { granted: false, error: denied.code(), grant: denied.grant.as_deref(), message: denied.to_string() };
    let text = format!("{}: {}: {}\n", screen.paint().bad("denied"), forbidden.error, shown(&forbidden.message));
    Answer::new(Exit::Refused, text, &forbidden)
}
