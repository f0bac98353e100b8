//! The tonic client as a process, against the tonic server as another.

use std::net::TcpListener;
use std::process::{Command, Output};

use countersign_examples::{Running, example_binary};
use countersign_testkit::IdentityProvider;

fn tonic_client(arguments: &[&str]) -> Output {
    Command::new(example_binary("tonic_client")).args(arguments).output().unwrap()
}

/// What it prints, if it ends with success.
fn printed(arguments: &[&str]) -> String {
    let output = tonic_client(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const READ: &str = r#"Get: Order { id: "1", owner: "ada" }
Watch: Order { id: "1", owner: "ada" }
Watch: Order { id: "2", owner: "ada" }
Watch: Order { id: "3", owner: "ada" }
"#;

#[test]
fn it_prints_answers_and_refusals_alike() {
    let idp = IdentityProvider::start();
    let server = Running::start_trusting("tonic_server", &idp);
    let url = server.url("");
    let call = |scope: &str| printed(&["--url", &url, "--token", &idp.token("orders").scope(scope).sign()]);

    assert_eq!(call("orders:read orders:write"), format!("{READ}Cancel: cancelled\n"));
    assert_eq!(
        call("orders:read"),
        format!("{READ}Cancel: PermissionDenied: the token does not grant the scope needed: orders:write\n")
    );
    idp.rotate();
    assert_eq!(call("orders:read orders:write"), format!("{READ}Cancel: cancelled\n"));

    let all = |status: &str| ["Get", "Watch", "Cancel"].map(|method| format!("{method}: {status}\n")).concat();
    assert_eq!(printed(&["--url", &url]), all("Unauthenticated: a Bearer token is needed"));
    let expired = idp.token("orders").expired(std::time::Duration::from_secs(60)).sign();
    assert_eq!(printed(&["--url", &url, "--token", &expired]), all("Unauthenticated: the token has expired"));
    for hostile in idp.token("orders").hostile().iter().filter(|hostile| !hostile.names_unknown_key).take(2) {
        let told = printed(&["--url", &url, "--token", &hostile.token]);
        assert_eq!(told, all("Unauthenticated: the token is not valid"), "{}", hostile.attack);
    }
}

#[test]
fn the_documented_command_works() {
    let server = Running::start("tonic_server", &[]);
    let printed = printed(&["--url", &server.url(""), "--token", server.token()]);
    assert!(printed.starts_with(READ), "{printed}");
}

#[test]
fn without_a_server_it_fails() {
    let fails = |url: &str| {
        let output = tonic_client(&["--url", url, "--token", "x"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // First somebody who hangs up on everybody, then nobody.
    let hangs_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    fails(&url);
    hangs_up.join().unwrap();
    fails(&url);
}
