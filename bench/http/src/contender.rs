//! What is measured: each is a service that answers the same, with something or nothing that checks tokens.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use countersign_testkit::IdentityProvider;

use crate::Failure;
use crate::children::Server;
use crate::cores::Cores;
use crate::load::request;
use crate::proxies::{EnvoyAuth, Files, Place, envoy, free_address, haproxy};

/// How long it may take to start.
const TO_START: Duration = Duration::from_secs(15);

/// Between two looks whether it has started.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Countersign,
    /// With so many milliseconds of work in the validator.
    Central(u64),
    Envoy(EnvoyAuth),
    HaProxy {
        verifies: bool,
    },
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "without authentication",
            Self::Countersign => "countersign",
            Self::Central(0) => "central validator",
            Self::Central(_) => "central validator, 2 ms of work",
            Self::Envoy(EnvoyAuth::None) => "Envoy in front, no `jwt_authn`",
            Self::Envoy(EnvoyAuth::Verify) => "Envoy in front, `jwt_authn`",
            Self::Envoy(EnvoyAuth::Cache) => "Envoy in front, `jwt_authn` with its cache",
            Self::HaProxy { verifies: false } => "HAProxy in front, no `jwt_verify`",
            Self::HaProxy { verifies: true } => "HAProxy in front, `jwt_verify`",
        }
    }

    /// The same without authentication.
    pub fn baseline(self) -> Self {
        match self {
            Self::Envoy(_) => Self::Envoy(EnvoyAuth::None),
            Self::HaProxy { .. } => Self::HaProxy { verifies: false },
            Self::Plain | Self::Countersign | Self::Central(_) => Self::Plain,
        }
    }

    /// Whether it looks at tokens at all.
    pub fn checks(self) -> bool {
        self != self.baseline()
    }
}

/// Where contenders are started.
pub struct Site<'a> {
    pub cores: Cores,
    pub files: &'a Files,
    pub provider: &'a IdentityProvider,
    pub envoy: Option<PathBuf>,
    pub haproxy: Option<PathBuf>,
}

/// One that has started, and lets good tokens in.
pub struct Contender {
    pub kind: Kind,
    pub address: SocketAddr,
    pub servers: Vec<Server>,
}

impl Contender {
    /// `token` is a good one.
    pub fn start(kind: Kind, site: &Site<'_>, token: &str) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let program = program.to_str().ok_or("a program whose name is no text")?;
        let (jwks, issuer) = (site.provider.jwks_url(), site.provider.issuer());
        let trusted = ["--jwks", &jwks, "--issuer", issuer];
        let mut servers = Vec::new();
        let mut own = |role, arguments: &[&str]| {
            let mut server = Server::start(role, site.cores, &[&[program], arguments].concat())?;
            let address = server.address()?;
            servers.push(server);
            Ok::<_, Failure>(address)
        };
        let address = match kind {
            Kind::Plain => own("service", &["plain"])?,
            Kind::Countersign => own("service", &[&["countersign"], &trusted[..]].concat())?,
            Kind::Central(work) => {
                let validator =
                    own("validator", &[&["validator", "--work", &work.to_string()], &trusted[..]].concat())?;
                own("service", &["central", "--validator", &validator.to_string()])?
            }
            Kind::Envoy(_) | Kind::HaProxy { .. } => {
                let upstream = own("service", &["plain"])?;
                let listen = free_address()?;
                let place = Place { listen, upstream, provider: site.provider.address(), issuer, jwks: &jwks };
                servers.push(proxy(kind, site, &place)?);
                listen
            }
        };
        let mut contender = Self { kind, address, servers };
        contender.wait(token)?;
        Ok(contender)
    }

    /// Until it lets the token in. A bad one must be refused then: else nothing would be measured.
    fn wait(&mut self, token: &str) -> Result<(), Failure> {
        let started = Instant::now();
        while !matches!(status(self.address, token), Ok(200)) {
            let ended = self.servers.iter_mut().find_map(|server| server.has_ended().then_some(server.role));
            if let Some(role) = ended {
                return Err(format!("{}: the {role} has ended", self.kind.name()).into());
            }
            if started.elapsed() > TO_START {
                return Err(format!("{}: it does not let a good token in", self.kind.name()).into());
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        // Another signature of the same length.
        let (head, signature) = token.rsplit_once('.').ok_or("a token without a signature")?;
        let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
        let expected = if self.kind.checks() { 401 } else { 200 };
        match status(self.address, &forged)? {
            status if status == expected => Ok(()),
            status => Err(format!("{}: a forged token gets {status}", self.kind.name()).into()),
        }
    }
}

fn proxy(kind: Kind, site: &Site<'_>, place: &Place<'_>) -> Result<Server, Failure> {
    let program = |path: &Option<PathBuf>| {
        let path = path.as_ref().and_then(|path| path.to_str());
        Ok::<_, Failure>(path.ok_or("no such program was given")?.to_owned())
    };
    match kind {
        Kind::Envoy(auth) => {
            let file = site.files.write(&format!("envoy-{auth:?}.json"), &envoy(place, auth))?;
            let rest = ["-c", &file, "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"];
            Server::start("Envoy", site.cores, &[&[&*program(&site.envoy)?], &rest[..]].concat())
        }
        _ => {
            let key = site.files.write("key.pem", &site.provider.key().public_pem())?;
            let verifies = kind == Kind::HaProxy { verifies: true };
            let config = haproxy(place, verifies.then_some(Path::new(&key)));
            let file = site.files.write(&format!("haproxy-{verifies}.cfg"), &config)?;
            Server::start("HAProxy", site.cores, &[&*program(&site.haproxy)?, "-db", "-q", "-f", &file])
        }
    }
}

/// Of one request on a connection of its own.
fn status(address: SocketAddr, token: &str) -> Result<u16, Failure> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(TO_START))?;
    connection.write_all(&request(address, token))?;
    let mut head = [0; 12];
    connection.read_exact(&mut head)?;
    Ok(std::str::from_utf8(&head)?.rsplit_once(' ').ok_or("no status")?.1.parse()?)
}
