//! Arguments that do not fit.

use crate::{GOOD, USAGE, run};

#[test]
fn help_is_good_and_has_the_exit_codes() {
    for arguments in [&["--help"][..], &["token", "verify", "--help"], &["token", "decode", "-h"]] {
        let help = run(arguments).ends(GOOD).out;
        assert!(help.contains("3  unavailable"), "{help}");
    }
    assert!(run(&["--version"]).ends(GOOD).out.starts_with("countersign "));
    let help = run(&[]).ends(USAGE);
    assert!(help.err.contains("Usage:") && help.out.is_empty());
}

#[test]
fn a_misplaced_token_or_secret_is_not_repeated() {
    let secret = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
    let option = format!("--{secret}");
    let assigned = format!("--json={secret}");
    for arguments in [
        &[secret][..],
        &[&option],
        &[&assigned],
        &["token", secret],
        &["token", "verify", "a.b.c", secret],
        &["token", "verify", &option],
        &["token", "verify", "--alg", secret],
        &["token", "verify", "--now", secret],
        &["token", "verify", "--leeway", secret],
        &["token", "sign", "--key", "k", "--claim", secret],
        &["completions", secret],
        &["--color", secret],
    ] {
        let ran = run(arguments).ends(USAGE).keeps_to_itself(&[secret, "eyJ"]);
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn a_mistyped_option_is_named_and_control_characters_are_not() {
    let ran = run(&["token", "verify", "--isuer", "x"]).ends(USAGE);
    assert!(ran.err.contains("'--isuer'") && ran.err.contains("--issuer"), "{}", ran.err);
    // As long as a name may be, and longer than any.
    for (name, is_named) in [("x".repeat(22), true), ("x".repeat(23), false)] {
        let ran = run(&["token", "verify", &format!("--{name}")]).ends(USAGE);
        assert_eq!(ran.err.contains(&name), is_named, "{}", ran.err);
    }
    // `Ran` looks at what is printed.
    run(&["--\x1b[2J"]).ends(USAGE);
    run(&["\x1b]0;title\x07"]).ends(USAGE);
    run(&["token", "verify", "--alg", "\u{202e}ES256"]).ends(USAGE);
}
