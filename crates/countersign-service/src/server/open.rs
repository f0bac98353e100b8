//! What a service opens before anything runs, and what a first run makes. All of it blocks.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::{Algorithm, FileSink, SigningKey};
use countersign_issuer::{Kek, KekRing, KekSource, KeyStore};
use serde_json::json;
use zeroize::Zeroizing;

use super::{FirstRun, ServerError, failed};
use crate::audit::{Audit, AuditOptions};
use crate::authenticate::SecretKey;
use crate::config::{Config, TlsFiles};
use crate::files::{self, MAX_KEY_BYTES, Others, write_new};
use crate::place::RingPlace;
use crate::policy::Policy;
use crate::policy_file::{self, PolicyFault};
use crate::sha256::sha256;
use crate::tls::{MAX_PEM_BYTES, TlsPem};

/// What stands around a private key in PEM (RFC 7468 section 10).
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// The client that the first run makes.
const FIRST_CLIENT: &str = "first";

/// What is opened before anything runs. Blocks.
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) place: RingPlace,
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) keks: KekRing,
    pub(super) policy_file: PathBuf,
    pub(super) text: String,
    pub(super) policy: Policy,
    pub(super) first_run: Option<FirstRun>,
    pub(super) secret_key: Option<SecretKey>,
    pub(super) pem: Option<TlsPem>,
    pub(super) audit: Option<Audit>,
    pub(super) revocations: Option<FileSink>,
}

impl Opened {
    pub(super) fn open(config: Config) -> Result<Self, ServerError> {
        let directory = &config.directory;
        if config.store.is_none() || config.policy_file.is_none() {
            make_directory(directory).map_err(|error| failed("make", directory, &error))?;
            files::remove_unfinished(directory);
        }
        let secret_key = policy_file::secret_key(&config).map_err(|fault| ServerError(fault.to_string().into()))?;
        let pem = config.tls.as_ref().map(read_pem).transpose()?;
        let keks = KekRing::new(keks(&config)?).map_err(|error| ServerError(error.to_string().into()))?;
        let place = config.store.clone().unwrap_or_else(|| RingPlace::Directory(directory.join("ring")));
        let store = place.open().map_err(|error| ServerError(format!("cannot open {place}: {error}").into()))?;
        let usual = directory.join("policy.toml");
        let first_run = match &config.policy_file {
            None if !exists(&usual) => Some(first_run(&config, &usual)?),
            _ => None,
        };
        let policy_file = config.policy_file.clone().unwrap_or(usual);
        let loaded = policy_file::load(&policy_file, &config, secret_key.as_ref());
        let (text, policy) = loaded.map_err(|fault| match fault {
            PolicyFault::File(text) => ServerError(text),
            fault => failed("use", &policy_file, &fault),
        })?;
        let audit = config.audit_file.as_deref().map(|file| audit(&config, file)).transpose()?;
        let revocations = config.revocations_file.as_deref().map(revocations).transpose()?;
        Ok(Self {
            config,
            place,
            store,
            keks,
            policy_file,
            text,
            policy,
            first_run,
            secret_key,
            pem,
            audit,
            revocations,
        })
    }
}

/// A client with a key of its own, and a policy under which it may have tokens signed that are good for nobody.
fn first_run(config: &Config, policy_file: &Path) -> Result<FirstRun, ServerError> {
    let key_file = config.directory.join("client.pem");
    // One that is there was left by a start that did not come as far as the policy, or is somebody's whose policy is gone: what
    // this start has not made it does not destroy.
    let is_key_kept = exists(&key_file);
    let key = if is_key_kept { kept_key(&key_file)? } else { new_key(&key_file)? };
    let jwk = key.public_jwk().map_err(|error| failed("use", &key_file, &error))?;
    let slot = config.ring.slots.first().map_or("", |slot| &*slot.name);
    let lifetime = config.ring.slots.first().map_or(300, |slot| config.ring.max_lifetime(slot).as_secs().min(300));
    let jwks = json!({ "keys": [jwk] });
    let text = format!(
        "# Who may have which tokens signed. It is read again when it changes; one that is not good changes nothing.\n\
         version = 1\nrevision = \"first run\"\n\n\
         [profiles.access]\nslots = [\"{slot}\"]\nlifetime = {lifetime}\n\n\
         [clients.{FIRST_CLIENT}]\njwks = '{jwks}'\n\n\
         [clients.{FIRST_CLIENT}.grants.example]\nprofiles = [\"access\"]\n\
         subjects = {{ self = true, prefixes = [\"user:\"] }}\naudiences = {{ exact = [\"example\"] }}\n\
         scopes = [\"example:read\"]\n"
    );
    write_new(policy_file, text.as_bytes()).map_err(|error| failed("write", policy_file, &error))?;
    Ok(FirstRun { client: FIRST_CLIENT, key_file, is_key_kept, policy_file: policy_file.to_owned() })
}

fn new_key(file: &Path) -> Result<SigningKey, ServerError> {
    let (key, private) =
        SigningKey::generate_exportable(Algorithm::Es256).map_err(|error| failed("make a key for", file, &error))?;
    let pem = Zeroizing::new(pem::encode(&pem::Pem::new(PRIVATE_KEY, private.as_bytes())));
    write_new(file, pem.as_bytes()).map_err(|error| failed("write", file, &error))?;
    Ok(key)
}

fn kept_key(file: &Path) -> Result<SigningKey, ServerError> {
    let octets = private_file(file)?;
    let pem = pem::parse(&*octets).ok().filter(|pem| pem.tag() == PRIVATE_KEY);
    let key = pem.and_then(|pem| {
        let der = Zeroizing::new(pem.into_contents());
        SigningKey::from_der(&der, Algorithm::Es256).ok()
    });
    key.ok_or_else(|| {
        let why = "there is no policy, and it is no key that a policy can be made for (ES256, PRIVATE KEY): write the \
                   policy, or move it away to have a new one";
        failed("use", file, &why)
    })
}

/// Those that are named, or else the directory's own.
fn keks(config: &Config) -> Result<Vec<Kek>, ServerError> {
    if config.kek.is_empty() {
        return Ok(vec![kek(&config.directory)?]);
    }
    let load = |text: &String| {
        let failed = |error: &dyn fmt::Display| ServerError(format!("`kek`: {error}").into());
        let source: KekSource = text.parse().map_err(|error| failed(&error))?;
        let source = if config.kek_group_may_read { source.group_may_read() } else { source };
        source.load().map_err(|error| failed(&error))
    };
    config.kek.iter().map(load).collect()
}

/// A new one only for a ring that does not exist: keys that are sealed under a lost one would be lost too.
fn kek(directory: &Path) -> Result<Kek, ServerError> {
    let file = directory.join("kek");
    let kek = match exists(&file) || exists(&directory.join("ring").join("state.json")) {
        true => KekSource::file(&file).load(),
        false => Kek::create_file(&file),
    };
    kek.map_err(|error| failed("use", &file, &error))
}

fn audit(config: &Config, file: &Path) -> Result<Audit, ServerError> {
    let mut options = AuditOptions::new().when_full(config.audit_when_full);
    if config.hashes_audit_subjects {
        options = options.hash_subjects(&*subjects_key(&config.directory.join("audit-subjects.key"))?);
    }
    Audit::open(file, options).map_err(|error| failed("write the audit log", file, &error))
}

/// A new one if there is none: what was hashed under a lost one stays as it is.
fn subjects_key(file: &Path) -> Result<Zeroizing<[u8; 32]>, ServerError> {
    let mut key = Zeroizing::new([0; 32]);
    if exists(file) {
        let octets = private_file(file)?;
        let octets = octets.as_slice().try_into().map_err(|_| failed("use", file, &"it has not 32 octets"))?;
        *key = octets;
    } else {
        aws_lc_rs::rand::fill(&mut *key).map_err(|error| failed("make", file, &error))?;
        write_new(file, &*key).map_err(|error| failed("write", file, &error))?;
    }
    Ok(key)
}

fn revocations(file: &Path) -> Result<FileSink, ServerError> {
    FileSink::open(file).map_err(|error| failed("write", file, &error))
}

/// A key that nobody else may read.
fn private_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, ServerError> {
    files::read(file, MAX_KEY_BYTES, Others::Nothing).map_err(|error| failed("use", file, &error))
}

pub(super) fn read_pem(files: &TlsFiles) -> Result<TlsPem, ServerError> {
    let read =
        |file: &Path, others| files::read(file, MAX_PEM_BYTES, others).map_err(|error| failed("use", file, &error));
    // Another certificate than that of the key serves nobody; another authority would vouch for whom it likes.
    let certificates = read(&files.certificate, Others::Anything)?;
    let key = read(&files.key, Others::GroupReads)?;
    let mut pem = TlsPem::new(&**certificates, &**key);
    if let Some(file) = &files.client_authorities {
        pem = pem.client_authorities(&**read(file, Others::AllRead)?);
    }
    Ok(pem)
}

/// Of everything that was read, so that of the key nothing is kept.
pub(super) fn thumbprint_of(pem: &TlsPem) -> Thumbprint {
    let authorities = pem.client_authorities.as_deref().unwrap_or_default();
    [&*pem.certificates, &**pem.key, authorities].map(sha256)
}

pub(super) type Thumbprint = [[u8; 32]; 3];

fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Also if it cannot be told: then nothing is made in its place.
fn exists(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}
