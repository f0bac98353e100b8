//! What the examples with a key ring share.

use std::error::Error;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_issuer::{Kek, KekRing, KekSource, KeyStore, StoreError, Timing};

/// The command line of an example that is a node of a key ring.
#[derive(Debug, clap::Parser)]
pub struct NodeOptions {
    /// The port to listen on, on loopback; 0 for any that is free.
    #[arg(long, default_value_t = 3000)]
    pub port: u16,
    /// The `iss` of the tokens. A ring is one issuer's: with another name it cannot be read.
    #[arg(long, default_value = "https://issuer.example")]
    pub issuer: String,
    /// Announce new keys for seconds, not for minutes, so that one can watch. Verifiers that fetch keep a set of keys for longer,
    /// and have to look again for each new key.
    #[arg(long)]
    pub hurry: bool,
}

/// The command line of an example that keeps a key ring in a directory.
#[derive(Debug, clap::Parser)]
pub struct RingOptions {
    /// What is so wherever a ring is kept.
    #[command(flatten)]
    pub node: NodeOptions,
    /// Where the ring is kept, and beside it, with `.kek` behind its name, what it is sealed under. Both are made if they are not
    /// there. Without it: in a new directory among the temporary files.
    #[arg(long)]
    pub directory: Option<PathBuf>,
}

impl NodeOptions {
    /// Where to listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The quantities of a ring: those by default, but for what `--hurry` makes shorter.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let mut timing = Timing::default();
        if self.hurry {
            let second = Duration::from_secs(1);
            (timing.max_age, timing.intermediary) = (second, Duration::ZERO);
            (timing.publish_lag, timing.clock_error) = (Duration::ZERO, second);
            timing.tick = Duration::from_millis(200);
        }
        timing
    }
}

impl RingOptions {
    /// The directory, and the key that private keys are sealed under before they come there. That lies in a file beside it only
    /// because an example must have it from somewhere: a service has it from a secrets manager
    /// ([`KekSource::command`](KekSource::command)), or mounted where no backup of the ring goes.
    ///
    /// # Errors
    /// Whatever cannot be opened or made, and what to do.
    pub fn store(&self) -> Result<(Arc<dyn KeyStore>, KekRing), Box<dyn Error>> {
        let directory = self.directory.clone().unwrap_or_else(|| temporary("ring"));
        println!("the ring is in {}", directory.display());
        let mut file = OsString::from(&directory);
        file.push(".kek");
        let file = PathBuf::from(file);
        let kek = if file.exists() { KekSource::file(file).load()? } else { Kek::create_file(file)? };
        Ok((open(&directory)?, KekRing::new([kek])?))
    }
}

#[cfg(unix)]
fn open(directory: &Path) -> Result<Arc<dyn KeyStore>, StoreError> {
    Ok(Arc::new(countersign_issuer::DirectoryStore::open(directory)?))
}

/// Rings in directories want Unix.
#[cfg(not(unix))]
fn open(_: &Path) -> Result<Arc<dyn KeyStore>, StoreError> {
    Ok(Arc::new(countersign_issuer::MemoryStore::new()))
}

/// A directory that is there, with whatever a test puts into it, until the test is over.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, among the temporary files; `name` is that of the test.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let directory = temporary(name);
        std::fs::create_dir_all(&directory).expect("a directory among the temporary files");
        Self(directory)
    }

    /// The path of what is, or will be, in it.
    ///
    /// # Panics
    /// If it is no UTF-8.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()))
}
