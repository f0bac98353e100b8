//! countersign against software that nobody here wrote, over real sockets: JOSE libraries of two other languages, a
//! certified OpenID provider, a gRPC client, and a verifier of our key ring. Every refusal that is checked is checked for its kind.
//!
//! `tests/interop/run` installs the foreign part and starts this. The first argument is the directory of the foreign part;
//! any others name the parts that are wanted, which otherwise are all.

#![expect(clippy::print_stdout, reason = "the output is what this program is for")]

mod differences;
mod example;
mod grpc;
mod jose;
mod load;
mod minted;
mod node;
mod ours;
mod outages;
mod program;
mod provider;
mod python;
#[cfg(unix)]
mod ring;
mod service;
mod tally;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::node::NodeJs;
use crate::python::Python;
use crate::tally::Tally;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long an answer over HTTP may take, and the first fetch of the keys. Everybody is in the same machine; two seconds of it
/// may be the wait for a key.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a part may take altogether. Six times what the longest needs on two cores.
const PART_TIMEOUT: Duration = Duration::from_secs(300);

const PARTS: [&str; 5] = ["jose", "python", "provider", "grpc", "ring"];

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(directory) = arguments.next().and_then(|directory| PathBuf::from(directory).canonicalize().ok()) else {
        println!("usage: interop <directory of the foreign part> [{}]...", PARTS.join("|"));
        return ExitCode::FAILURE;
    };
    let wanted: Vec<OsString> = arguments.collect();
    let mut tally = Tally::default();
    for unknown in wanted.iter().filter(|wanted| PARTS.iter().all(|part| *wanted != part)) {
        tally.check("arguments", Err(format!("there is no part {}", unknown.display()).into()));
    }
    for part in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == part) {
            tally.add(&run(part, &directory).await);
        } else {
            println!("{part}: not asked for");
        }
    }
    println!("interop: {} passed, {} failed", tally.passed(), tally.failed());
    if tally.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one part, and prints its subtotal.
async fn run(part: &str, directory: &Path) -> Tally {
    let started = Instant::now();
    let mut tally = Tally::default();
    let outcome = tokio::time::timeout(PART_TIMEOUT, async {
        match part {
            "jose" => jose::run(&NodeJs::find(directory), &mut tally).await,
            "python" => python::run(&Python::find(directory), &mut tally).await,
            "provider" => provider::run(&NodeJs::find(directory), &mut tally).await,
            "grpc" => grpc::run(&Python::find(directory), &mut tally).await,
            #[cfg(unix)]
            "ring" => ring::run(&NodeJs::find(directory), &mut tally).await,
            _ => Err("not on this system".into()),
        }
    });
    match outcome.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tally.check("the run itself", Err(error)),
        Err(_) => tally.check("the run itself", Err(format!("not over after {PART_TIMEOUT:?}").into())),
    }
    println!("{part}: {} passed, {} failed, {} s", tally.passed(), tally.failed(), started.elapsed().as_secs());
    tally
}
