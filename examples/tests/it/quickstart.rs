//! The first thing that a newcomer runs.

use std::net::TcpListener;
use std::process::{Command, Output};

fn quickstart(arguments: &[&str]) -> Output {
    Command::new(countersign_examples::example_binary("quickstart")).args(arguments).output().expect("it starts")
}

#[test]
fn once_makes_the_three_calls_and_ends_with_success() {
    let output = quickstart(&["--port", "0", "--once"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "curl -i -X GET -H 'Authorization: Bearer ey",
        "200 OK",
        "Hello, ada!",
        "401 Unauthorized",
        "403 Forbidden",
        r#"error="insufficient_scope""#,
        r#"scope="admin""#,
    ] {
        assert!(shown.contains(expected), "no {expected:?} in:\n{shown}");
    }
}

#[test]
fn a_taken_port_gives_a_clear_message() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = quickstart(&["--port", &port, "--once"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains(&format!("Cannot listen on port {port}")) && message.contains("--port 0"), "{message}");
}

#[test]
fn the_curl_lines_work_while_it_waits() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::process::Stdio;

    /// Ends the example whatever becomes of the test.
    struct Running(std::process::Child);
    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let child = Command::new(countersign_examples::example_binary("quickstart"))
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Running(child);
    let (mut api, mut bearer) = (String::new(), String::new());
    for line in BufReader::new(child.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(address) = line.strip_prefix("API:     http://") {
            api = address.to_owned();
        }
        if let Some((_, rest)) = line.split_once("-H '") {
            bearer = rest.split_once('\'').unwrap().0.to_owned();
        }
        if line.starts_with("Paste these lines") {
            break;
        }
    }
    let status = |method: &str, path: &str, header: &str| {
        let mut connection = std::net::TcpStream::connect(&api).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {api}\r\n{header}connection: close\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let header = format!("{bearer}\r\n");
    assert_eq!(status("GET", "/hello", &header), "200");
    assert_eq!(status("GET", "/hello", ""), "401");
    assert_eq!(status("GET", "/hello", "authorization: Bearer x.y.z\r\n"), "401");
    assert_eq!(status("DELETE", "/everything", &header), "403");
}
