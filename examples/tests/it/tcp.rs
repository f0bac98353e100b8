//! The line protocol, over raw sockets.

use std::process::Command;
use std::time::Duration;

use countersign_examples::Running;
use countersign_testkit::IdentityProvider;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends `lines`, says that this was all, and returns what comes back until the other side has closed.
async fn say(example: &Running, lines: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(example.address()).await.unwrap();
    // Whoever is cut off may not get rid of the rest.
    let _ = stream.write_all(lines.as_ref()).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn a_good_token_opens_an_echo() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tcp", &idp);
    let token = || idp.token("orders").scope("orders:read");

    assert_eq!(say(&example, format!("AUTH {}\n", token().sign())).await, "OK ada\n");
    assert_eq!(say(&example, format!("AUTH {}\r\nhello\r\nworld\n", token().sign())).await, "OK ada\nhello\nworld\n");
    // A subject is text of somebody else's: it makes no lines of its own.
    let odd = token().subject("ada\nOK root").sign();
    assert_eq!(say(&example, format!("AUTH {odd}\n")).await, "OK ada\\nOK root\n");

    idp.rotate();
    assert_eq!(say(&example, format!("AUTH {}\nhi\n", token().sign())).await, "OK ada\nhi\n");
}

#[tokio::test]
async fn everything_else_is_refused_and_cut_off() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tcp", &idp);
    let good = idp.token("orders").scope("orders:read");

    for (first, answer) in [
        (format!("AUTH {}\nhello\n", good.clone().scope("orders").sign()), "ERR insufficient_scope\n"),
        (format!("AUTH {}\nhello\n", good.clone().audience("invoices").sign()), "ERR invalid_token\n"),
        (format!("AUTH {}\nhello\n", good.clone().expired(Duration::from_secs(60)).sign()), "ERR invalid_token\n"),
        (format!("auth {}\n", good.sign()), "ERR invalid_request\n"),
        (format!("AUTH {}", good.sign()), "ERR invalid_request\n"),
        ("AUTH \n".to_owned(), "ERR invalid_token\n"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "ERR invalid_request\n"),
        (String::new(), "ERR invalid_request\n"),
    ] {
        assert_eq!(say(&example, &first).await, answer, "{first:?}");
    }
    let mut sent = 0;
    for hostile in good.hostile() {
        let lines = format!("AUTH {}\nhello\n", hostile.token);
        // It may take the example some time to look for made-up keys; and a long line or one of several is not one.
        if hostile.names_unknown_key || lines.lines().count() != 2 || lines.len() > 8192 {
            continue;
        }
        assert_eq!(say(&example, lines).await, "ERR invalid_token\n", "{}", hostile.attack);
        sent += 1;
    }
    assert!(sent > 50, "{sent}");
}

#[tokio::test]
async fn no_line_is_kept_that_is_too_long_or_no_text() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tcp", &idp);
    let auth = format!("AUTH {}\n", idp.token("orders").scope("orders:read").sign());

    // One without an end, of which the example reads the beginning. It may reset us while we still send.
    assert!(["ERR invalid_request\n", ""].contains(&&*say(&example, vec![b'a'; 1 << 20]).await));
    let long = say(&example, [auth.as_bytes(), &vec![b'a'; 1 << 20], b"\nnext\n"].concat()).await;
    assert!(["OK ada\n", ""].contains(&&*long), "{long}");
    assert_eq!(say(&example, b"AUTH \xff\xfe\n").await, "");
    // And it is still there for others.
    assert_eq!(say(&example, auth).await, "OK ada\n");
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tcp", &idp);
    let mut silent = TcpStream::connect(example.address()).await.unwrap();
    let mut said = String::new();
    silent.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "ERR timeout\n");
}

#[tokio::test]
async fn the_connection_ends_with_its_token() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tcp", &idp);
    let token = idp.token("orders").scope("orders:read").expires_in(Duration::from_secs(2)).sign();
    let mut stream = TcpStream::connect(example.address()).await.unwrap();
    stream.write_all(format!("AUTH {token}\nhello\n").as_bytes()).await.unwrap();
    let mut said = String::new();
    // We do not close: it does.
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "OK ada\nhello\nERR expired\n");
}

#[tokio::test]
async fn without_an_issuer_it_brings_one() {
    let example = Running::start("tcp", &[]);
    assert_eq!(say(&example, format!("AUTH {}\nhello\n", example.token())).await, "OK ada\nhello\n");
    assert_eq!(say(&example, "AUTH nonsense\n").await, "ERR invalid_token\n");
}

/// Each documented line by a shell, as a user runs it. What it prints stands behind it, with commas between the lines.
#[test]
fn the_documented_calls_work() {
    let curl = Command::new("curl").arg("--version").output();
    let speaks_telnet = curl.is_ok_and(|curl| String::from_utf8_lossy(&curl.stdout).contains(" telnet"));
    if !cfg!(unix) || !speaks_telnet {
        println!("left out: there is no shell here, or no curl that speaks telnet");
        return;
    }
    let example = Running::start("tcp", &[]);
    let mut calls = 0;
    for line in include_str!("../../tcp.rs").lines().filter_map(|line| line.strip_prefix("//! ")) {
        let Some((command, expected)) = line.split_once("# ").filter(|(command, _)| command.contains("| curl")) else {
            continue;
        };
        let command = command.replace("127.0.0.1:3000", &example.address().to_string());
        let output = Command::new("sh").args(["-c", &command]).env("TOKEN", example.token()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>().join(", "), expected, "{line}");
        calls += 1;
    }
    assert_eq!(calls, 2);
}

/// Not even by a client that never reads, so that whatever it is told cannot get through.
#[tokio::test]
async fn no_connection_outlives_its_token() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("tcp", &idp);
    let token = idp.token("orders").scope("orders:read").expires_in(Duration::from_secs(2)).sign();
    let mut stream = TcpStream::connect(example.address()).await.unwrap();
    stream.write_all(format!("AUTH {token}\n").as_bytes()).await.unwrap();
    let line = [&[b'x'; 4000][..], b"\n"].concat();
    // Until the echo is stuck, and then until the other side has closed.
    let shut_out = async { while stream.write_all(&line).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), shut_out).await.expect("at the latest the patience after `exp`");
}
