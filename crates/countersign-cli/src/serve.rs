//! `countersign serve`.

use std::time::Duration;

use clap::Args;
use countersign_service::{Config, Server};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Source;
use crate::exit::{Answer, Failure};
use crate::output::Screen;

#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    settings: Source,
}

impl Serve {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let config = self.settings.needed()?;
        let log = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO);
        // A second one in the same process is nobody's wish.
        let _ = log.try_init();
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::unavailable("no_runtime", format!("cannot begin: {}", error.kind())))?;
        let served = runtime.block_on(serve(config, screen));
        // Nobody has a use any more for what is still under way, such as a key of RSA that is being made.
        runtime.shutdown_timeout(GRACE);
        served
    }
}

/// How long work on other threads is waited for at the end: what writes a file is at its end by then.
const GRACE: Duration = Duration::from_secs(1);

async fn serve(config: Config, screen: &Screen) -> Result<Answer, Failure> {
    let failed =
        |error: std::io::Error| Failure::unavailable("cannot_serve", format!("cannot begin: {}", error.kind()));
    // Before anything is made, so that whoever stops it at once stops it in order.
    let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let (mut terminate, mut interrupt) = (terminate.map_err(failed)?, interrupt.map_err(failed)?);
    let issuer = config.issuer.clone();
    for warning in config.ring.warnings() {
        screen.warn(&warning.to_string());
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let server = tokio::select! {
        server = Server::start(config) => server,
        // What was made by then is used by the next start.
        () = either(&mut terminate, &mut interrupt) => return Ok(Answer::text(String::new())),
    };
    let server = server.map_err(|error| Failure::unavailable("cannot_serve", error.to_string()))?;
    if let Some(first) = server.first_run() {
        screen.note(&format!(
            "first run: the client `{}` may have tokens signed with the key in {}{}, as {} says; move the key to where the client is",
            first.client,
            first.key_file.display(),
            if first.is_key_kept { ", which was there already" } else { "" },
            first.policy_file.display()
        ));
    }
    screen.note(&format!("listening on {scheme}://{}, as {issuer}", server.local_addr().map_err(failed)?));
    server.run(either(&mut terminate, &mut interrupt)).await;
    Ok(Answer::text(String::new()))
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
