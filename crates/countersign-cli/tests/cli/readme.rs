//! The README's section on the command line.

use std::path::Path;
use std::process::Command;

use crate::{Ran, directory};

#[test]
fn every_line_of_the_readme_does_what_it_says() {
    let readme = include_str!("../../../../README.md");
    let (_, section) = readme.split_once("## Command line\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (script, _) = block.split_once("```").unwrap();
    assert!(script.lines().count() > 10);
    let place = directory("readme");
    let bin = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(bin.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    // The first line that fails is the last.
    let output =
        Command::new("sh").args(["-euc", script]).current_dir(&place).env("PATH", path.unwrap()).output().unwrap();
    let ran = Ran::of(output).ends(0);
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
