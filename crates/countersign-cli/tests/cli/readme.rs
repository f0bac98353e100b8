//! The README's sections on the command line and on the token service, and the service's page for `curl`, which has to be there.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::{Ran, directory};

#[test]
fn every_line_of_the_readme_does_what_it_says() {
    let place = directory("readme");
    let listen = format!("export COUNTERSIGN_LISTEN=127.0.0.1:{}\n", free_port());
    let ran = run_script(&(listen + &script_below("Command line")), &place);
    let [token, signed] = ["token", "signed"].map(|name| std::fs::read_to_string(place.join(name)).unwrap());
    assert_eq!(signed.trim_end().split('.').count(), 3, "{signed}");
    let ran = ran.keeps_to_itself(&[token.trim_end(), signed.trim_end()]);
    for said in [
        ": active\n",
        "accepted: signed by key ",
        "\naccepted\n  shape ",
        "NOT VERIFIED",
        "2 keys: 2 taken, 0 skipped; ",
        "slot es256: ",
        "es256: another key signs as soon as there is a standby\n",
        "abandoned",
        "revoked: ",
        "1 keys are part of the ring\n",
        "good: 1 lines, 1 to 1, the last is ",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    for (file, said) in [("countersign.bash", "complete"), ("countersign.1", ".TH"), ("jwks.json", "\"keys\"")] {
        assert!(std::fs::read_to_string(place.join(file)).unwrap().contains(said), "{file}");
    }
}

#[test]
fn the_newcomers_way_to_a_token_of_the_service_is_as_the_readme_says() {
    let place = directory("readme-serve");
    let script = script_below("Token service");
    let cargo = "cargo run -q --example axum -- --port 3000";
    assert!(script.contains(cargo), "{script}");
    let port = free_port().to_string();
    let script = script.replace(cargo, &format!("'{}' --port {port}", example("axum").display()));
    let ran = run_service(&script.replace("127.0.0.1:3000", &format!("127.0.0.1:{port}")), &place);
    for said in ["accepted: signed by key ", "es256: another key signs as soon as there is a standby\n"] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    assert_eq!(ran.out.matches("Hello, first!").count(), 2, "before the rotation, and after it\n{}", ran.out);
    let answer = std::fs::read_to_string(place.join("answer.json")).unwrap();
    assert!(answer.contains("\"expires_in\":300"), "{answer}");
}

#[test]
fn each_call_of_the_page_for_curl_is_answered_as_it_says() {
    let page = include_str!("../../../countersign-service/CURL.md");
    let script: String = page.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect();
    // `# 200, 429` behind a call, which prints them in that order, each in a line.
    let is_status = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let told = script.lines().filter_map(|line| line.rsplit_once("# "));
    let told: Vec<_> = told.flat_map(|(_, codes)| codes.split(", ").filter(|code| is_status(code))).collect();
    assert!(told.len() >= 20, "{told:?}");
    let ran = run_service(&script, &directory("curl"));
    let said: Vec<_> = ran.out.lines().filter(|line| is_status(line)).collect();
    assert_eq!(said, told, "{}", ran.out);
    // Each route and each refusal that one call can have.
    let document: serde_json::Value = serde_json::from_str(countersign_service::OPENAPI).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        let path = path.replace('{', "$").replace('}', "");
        assert!(script.contains(&format!("$issuer{path} ")), "{path}");
    }
    for code in ["400", "401", "403", "404", "405", "413", "415", "422", "429"] {
        assert!(told.contains(&code), "{code}");
    }
}

/// A page that waits for what does not come has to be found, not waited for.
const MOST: Duration = Duration::from_secs(240);

/// The commands of a section.
fn script_below(section: &str) -> String {
    let (_, rest) = include_str!("../../../../README.md").split_once(&format!("## {section}\n")).unwrap();
    let (_, block) = rest.split_once("```sh\n").unwrap();
    let (script, _) = block.split_once("```").unwrap();
    assert!(script.lines().count() > 10);
    script.to_owned()
}

/// The same for commands that start the service, on a free port; it has to end well.
fn run_service(script: &str, place: &Path) -> Ran {
    let listen = format!("127.0.0.1:{}", free_port());
    let script = script.replace("127.0.0.1:8080", &listen);
    let first = format!(
        "command -v curl\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\nexport COUNTERSIGN_LISTEN={listen}\n"
    );
    run_script(&format!("{first}{script}wait \"${{service:-$!}}\"\n"), place)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One of the repository's examples, which tests of the whole workspace have built already.
fn example(name: &str) -> PathBuf {
    let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let program = bin.join("examples").join(name);
    if !program.exists() {
        let build = ["build", "--quiet", "--package", "countersign-examples", "--example", name];
        let release = bin.ends_with("release").then_some("--release");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(build).args(release).env("CARGO_TARGET_DIR", bin.parent().unwrap());
        let built = cargo.status().unwrap();
        assert!(built.success());
    }
    program
}

/// The first line that fails is the last.
fn run_script(script: &str, place: &Path) -> Ran {
    let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(place).env("PATH", path).process_group(0);
    let shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let group = format!("-{}", shell.id());
    let (ended, end) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if end.recv_timeout(MOST) == Err(RecvTimeoutError::Timeout) {
            // All of it, or what it has started keeps its output open.
            Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
        }
    });
    let output = shell.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    Ran::of(output).ends(0)
}
