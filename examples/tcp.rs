//! A line protocol over plain TCP, by way of `Verifier`: `cargo run --example tcp`.
//!
//! The first line is `AUTH <token>`. The answer is `OK <sub>`, and every further line comes back, until the token expires; or
//! it is `ERR <code>`, and that is the end.
//!
//! ```text
//! TOKEN=…                                                                               # the token that it prints
//! printf 'AUTH %s\nhello\n' "$TOKEN" | curl -sm 2 telnet://127.0.0.1:3000               # OK ada, hello
//! printf 'AUTH nonsense\n' | curl -sm 2 telnet://127.0.0.1:3000                         # ERR invalid_token
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the person who runs it")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser as _;
use countersign::token::DEFAULT_MAX_TOKEN_BYTES;
use countersign::verifier::{Fault, Verifier};
use countersign::{JwtAuth, Keys, SystemClock, UnixTime, Verified, scope};
use countersign_examples::Options;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// The longest line: the longest token that is looked at, and the word before it. Whoever sends more is cut off.
const MAX_LINE_BYTES: usize = DEFAULT_MAX_TOKEN_BYTES + 16;

/// How long a client may take to say who it is, and to read what it is told: ages for a program, and nobody keeps sockets open
/// for nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many may be connected at once; the next ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;

async fn serve(socket: TcpStream, verifier: Arc<Verifier<Keys>>) -> io::Result<()> {
    let mut stream = BufReader::new(socket);
    let first = match timeout(PATIENCE, line(&mut stream)).await {
        Ok(first) => first?,
        Err(_) => return tell(&mut stream, "ERR timeout").await,
    };
    let caller = match authenticate(first.as_deref(), &verifier).await {
        Ok(caller) => caller,
        Err(code) => return tell(&mut stream, &format!("ERR {code}")).await,
    };
    tell(&mut stream, &format!("OK {}", caller.subject().unwrap_or_default().escape_debug())).await?;
    // The token was good when the connection began. The connection must not outlive it, not even by a client that does not read.
    match timeout(left(&caller), echo(&mut stream)).await {
        Ok(ended) => ended,
        Err(_) => tell(&mut stream, "ERR expired").await,
    }
}

/// Says something to a client that may not be listening.
async fn tell(stream: &mut BufReader<TcpStream>, what: &str) -> io::Result<()> {
    timeout(PATIENCE, stream.write_all(format!("{what}\n").as_bytes())).await?
}

/// Tells the client whose fault it is, as HTTP's status does, and the operator the rest.
async fn authenticate(first: Option<&str>, verifier: &Verifier<Keys>) -> Result<Verified, &'static str> {
    let token = first.and_then(|line| line.strip_prefix("AUTH ")).ok_or("invalid_request")?;
    let caller = verifier.verify_or_wait(token, &SystemClock).await.map_err(|refusal| {
        eprintln!("refused: {}", refusal.code());
        match refusal.fault() {
            Fault::Token => "invalid_token",
            Fault::AskAgain => "try_again",
            Fault::Unavailable => "unavailable",
        }
    })?;
    scope("orders:read").check(&caller).map_err(|_| "insufficient_scope")?;
    Ok(caller)
}

/// How long the token is good for. `exp` is always there, because the policy demands it.
fn left(caller: &Verified) -> Duration {
    let exp = caller.expires_at().map_or(0, UnixTime::as_secs);
    let now = UnixTime::from(SystemTime::now()).as_secs();
    Duration::from_secs(exp.saturating_sub(now).try_into().unwrap_or(0))
}

async fn echo(stream: &mut BufReader<TcpStream>) -> io::Result<()> {
    while let Some(line) = line(stream).await? {
        stream.write_all(format!("{line}\n").as_bytes()).await?;
    }
    Ok(())
}

/// The next line, without its end; `None` at the end of the stream, or for a line that is too long.
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = String::new();
    stream.take(MAX_LINE_BYTES as u64).read_line(&mut line).await?;
    Ok(line.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let verifier = auth.verifier();

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on {}", listener.local_addr()?);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let Ok((socket, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: others will be closed.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move {
            // How it ended is the client's affair.
            let _ = serve(socket, verifier).await;
            drop(place);
        });
    }
}
