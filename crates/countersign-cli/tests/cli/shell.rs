//! What shells do with the binary: pipes that close, completions, colour.

use std::process::Stdio;

use countersign_testkit::IdentityProvider;

use crate::{GOOD, REFUSED, UNAVAILABLE, command, run};

#[test]
fn completions_and_the_man_page_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = command(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(GOOD));
        for word in ["token", "verify", "--jwks", "completions"] {
            // Fish writes options without the dashes.
            assert!(script.contains(word.trim_start_matches('-')), "{shell} {word}");
        }
    }
    let page = run(&["man"]).ends(GOOD).out;
    assert!(page.contains(".TH countersign 1") && page.contains("Exit codes"), "{page}");
    let directory = crate::directory("man");
    run(&["man", "--directory", directory.to_str().unwrap()]).ends(GOOD);
    let page = std::fs::read_to_string(directory.join("countersign-token-verify.1")).unwrap();
    assert!(page.contains("leeway") && page.contains("Exit codes"), "{page}");
    #[cfg(unix)]
    {
        let page = std::fs::read_to_string(directory.join("countersign-policy-secret.1")).unwrap();
        assert!(page.contains("client") && page.contains("output") && page.contains("this once"), "{page}");
    }
    run(&["man", "--directory", directory.join("nowhere").to_str().unwrap()]).ends(UNAVAILABLE);
}

#[cfg(unix)]
#[test]
fn a_pipe_that_closes_changes_nothing_but_what_is_heard() {
    let idp = IdentityProvider::start();
    let (good, bad) = (idp.token("orders").sign(), idp.token("billing").sign());
    let url = idp.jwks_url();
    let checks = ["--jwks", &url, "--issuer", idp.issuer(), "--audience", "orders"];
    for (arguments, code) in [
        (vec!["man"], GOOD),
        (vec!["completions", "zsh"], GOOD),
        (vec!["--help"], GOOD),
        ([&["token", "verify", &good], &checks[..]].concat(), GOOD),
        ([&["token", "verify", &bad, "--json"], &checks[..]].concat(), REFUSED),
    ] {
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody ever listens, as after `| true`.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_no_answer() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command(&["man"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(UNAVAILABLE));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write"));
}

#[test]
fn colour_is_for_terminals_or_for_who_asks_for_it() {
    let decode = ["token", "decode", "e30.e30."];
    let has_colour = |more: &[&str], no_color: Option<&str>| {
        let mut command = command(&[&decode, more].concat());
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        command.output().unwrap().stdout.contains(&0x1b)
    };
    assert!(!has_colour(&[], None), "a pipe is no terminal");
    assert!(has_colour(&["--color", "always"], None));
    assert!(has_colour(&["--color", "always"], Some("1")), "who asks for it has it");
    assert!(!has_colour(&["--color", "never"], None));
    assert!(!has_colour(&["--color", "always", "--json"], None), "JSON has none");
}

/// What the binary shows on a terminal, with these variables. `script` (util-linux) is such a terminal.
#[cfg(target_os = "linux")]
fn on_a_terminal(arguments: &str, variables: &[(&str, &str)]) -> String {
    let mut script = std::process::Command::new("script");
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_countersign"));
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env_remove("NO_COLOR").env("TERM", "xterm");
    let output = script.envs(variables.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(GOOD), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_colour_unless_somebody_objects() {
    let decode = "token decode e30.e30.";
    assert!(on_a_terminal(decode, &[]).contains("\x1b[1;31mNOT VERIFIED"));
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_a_terminal(decode, &[plain]).contains('\x1b'), "{plain:?}");
    }
    assert!(on_a_terminal(decode, &[("NO_COLOR", "")]).contains('\x1b'), "empty is not set");
    assert!(!on_a_terminal(&format!("{decode} --color never"), &[]).contains('\x1b'));
    assert!(!on_a_terminal(&format!("{decode} --json"), &[]).contains('\x1b'));
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_sees_that_large_keys_are_being_made() {
    let place = crate::directory("progress");
    let kek = crate::file(&place, "kek", "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210");
    // Three, because one may be made in no time.
    let tick = |ring: &str, slots: &str| {
        let ring = place.join(ring);
        format!("tick --ring {} --issuer https://issuer.example --kek file:{kek} {slots}", ring.display())
    };
    let said = on_a_terminal(&tick("watched", "--slot RS256:4096 --slot PS256:4096 --slot RS512:4096"), &[]);
    assert!(said.contains("\r\x1b[2Kmaking a key for ") && said.contains("rs256-4096"), "{said:?}");
    // The line is gone at the end.
    let (_, rest) = said.rsplit_once("making a key").unwrap();
    assert!(rest.contains("\r\x1b[2K"), "{rest:?}");
    assert!(!on_a_terminal(&(tick("unwatched", "--slot RS256:4096") + " --json"), &[]).contains("making a key"));
}
