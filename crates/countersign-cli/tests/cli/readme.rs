//! The README's sections on the command line and on the token service.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::{Ran, directory};

#[test]
fn every_line_of_the_readme_does_what_it_says() {
    let place = directory("readme");
    let ran = run_script(&script_below("Command line"), &place);
    let token = std::fs::read_to_string(place.join("token")).unwrap();
    let ran = ran.keeps_to_itself(&[token.trim_end()]);
    for said in [
        ": active\n",
        "accepted: signed by key ",
        "\naccepted\n  shape ",
        "NOT VERIFIED",
        "2 keys: 2 taken, 0 skipped; ",
        "slot es256: ",
        "es256: another key signs as soon as there is a standby\n",
        "revoked: ",
    ] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    for (file, said) in [("countersign.bash", "complete"), ("countersign.1", ".TH"), ("jwks.json", "\"keys\"")] {
        assert!(std::fs::read_to_string(place.join(file)).unwrap().contains(said), "{file}");
    }
}

#[test]
fn the_newcomers_way_to_a_token_of_the_service_is_as_the_readme_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        // The same calls without it are in `serve.rs`.
        return;
    }
    let place = directory("readme-serve");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let script = script_below("Token service").replace("127.0.0.1:8080", &listen);
    let script =
        format!("trap 'kill $! 2>/dev/null || true' EXIT\nexport COUNTERSIGN_LISTEN={listen}\n{script}wait $!\n");
    let ran = run_script(&script, &place);
    for said in ["accepted: signed by key ", "es256: another key signs as soon as there is a standby\n"] {
        assert!(ran.out.contains(said), "{said}\n{}", ran.out);
    }
    let answer = std::fs::read_to_string(place.join("answer.json")).unwrap();
    assert!(answer.contains("\"expires_in\":300"), "{answer}");
}

/// The commands of a section.
fn script_below(section: &str) -> String {
    let (_, rest) = include_str!("../../../../README.md").split_once(&format!("## {section}\n")).unwrap();
    let (_, block) = rest.split_once("```sh\n").unwrap();
    let (script, _) = block.split_once("```").unwrap();
    assert!(script.lines().count() > 10);
    script.to_owned()
}

/// The first line that fails is the last.
fn run_script(script: &str, place: &Path) -> Ran {
    let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path))).unwrap();
    let output = Command::new("sh").args(["-euc", script]).current_dir(place).env("PATH", path).output().unwrap();
    Ran::of(output).ends(0)
}
