//! What `CONFIGURATION.md` says is what is so: all settings with their defaults, all members of the policy, and what is said to be a
//! file is read as one. With `BLESS` in the environment, what is generated there is rewritten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use countersign_service::policy::Policy;
use countersign_service::{Config, ENVIRONMENT_PREFIX, SETTINGS, Setting};

/// The reader of the policy: what it knows is what there is.
const READER: &str = include_str!("../src/policy/document.rs");

/// Where each of its structures stands in the document, which is the heading of its table. One that is new has to be put here.
const PLACES: [(&str, &str); 11] = [
    ("Document", "The document"),
    ("WorkloadIssuerEntry", "`workload_issuers.ISSUER`"),
    ("ProfileEntry", "`profiles.NAME`"),
    ("ClientEntry", "`clients.NAME`"),
    ("WorkloadEntry", "`clients.NAME.workloads`"),
    ("CertificateEntry", "`clients.NAME.certificates`"),
    ("RateEntry", "`clients.NAME.rate`"),
    ("GrantEntry", "`clients.NAME.grants.NAME`"),
    ("SubjectEntry", "`clients.NAME.grants.NAME.subjects`"),
    ("NamesEntry", "`clients.NAME.grants.NAME.audiences`"),
    ("ClaimEntry", "`clients.NAME.grants.NAME.claims.NAME`"),
];

const NONE: [(&str, &str); 0] = [];

fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../CONFIGURATION.md"))
}

fn page() -> String {
    fs::read_to_string(path()).unwrap()
}

/// What is between two marks.
fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(begin).unwrap_or_else(|| panic!("CONFIGURATION.md has no {begin:?}"));
    rest.split_once(end).unwrap().0
}

/// With something else between them.
fn replaced(page: &str, begin: &str, end: &str, text: &str) -> String {
    let is = between(page, begin, end);
    page.replacen(&format!("{begin}{is}{end}"), &format!("{begin}{text}{end}"), 1)
}

/// The only block of that kind, such as `toml policy`.
fn block<'a>(page: &'a str, kind: &str) -> &'a str {
    between(page, &format!("```{kind}\n"), "```\n")
}

fn row(setting: &Setting) -> String {
    let variable = format!("{ENVIRONMENT_PREFIX}{}", setting.name.to_ascii_uppercase());
    let (default, name, form, about) = (setting.default, setting.name, setting.form(), setting.about);
    // What is a value, and not how it comes about.
    let default = if is_value(setting) { format!("`{default}`") } else { default.to_owned() };
    format!("| `{name}` | `{variable}` | {form} | {default} | {about} |\n")
}

/// Whether the default is the value itself: then it is what the reader takes if nobody says anything.
fn is_value(setting: &Setting) -> bool {
    let values: toml::Table = Config::read("", NONE).unwrap().to_toml().parse().unwrap();
    values.get(setting.name).is_some_and(|value| match value {
        toml::Value::String(text) => text == setting.default,
        toml::Value::Array(texts) => {
            let texts: Vec<_> = texts.iter().filter_map(toml::Value::as_str).collect();
            texts.join(", ") == setting.default
        }
        value => value.to_string() == setting.default,
    })
}

#[test]
fn every_setting_is_there_with_its_default_and_what_is_shown_is_what_is_said() {
    let page = page();
    let heads = "\n| setting | variable | type | default | what for |\n|---|---|---|---|---|\n".to_owned();
    let table = heads + &SETTINGS.iter().map(row).collect::<String>();
    let shown = Config::read("", NONE).unwrap().to_toml();
    let wanted = replaced(&page, "<!-- settings: generated -->", "<!-- /settings -->", &table);
    let wanted = replaced(&wanted, "```toml config-show\n", "```\n", &shown);
    if wanted != page && std::env::var_os("BLESS").is_some() {
        fs::write(path(), &wanted).unwrap();
        return;
    }
    let missing: Vec<_> = wanted.lines().filter(|line| !page.contains(line)).collect();
    assert!(
        wanted == page,
        "CONFIGURATION.md is not what the program says; run this with BLESS=1. Lines it lacks:\n{missing:#?}"
    );
}

#[test]
fn a_default_that_is_a_value_is_the_one_in_force() {
    let values: toml::Table = Config::read("", NONE).unwrap().to_toml().parse().unwrap();
    // Those whose default is a sentence: it has no value, or follows from another setting.
    let derived = ["issuer"];
    for setting in SETTINGS {
        let is_sentence = derived.contains(&setting.name) || !values.contains_key(setting.name);
        assert_ne!(is_value(setting), is_sentence, "`{}`: {} is not in force", setting.name, setting.default);
    }
}

#[test]
fn what_is_said_to_be_a_file_of_settings_is_one() {
    let page = page();
    let config = Config::read(block(&page, "toml settings"), NONE);
    // Where this build has no S3, it says so.
    match config {
        Ok(config) => assert_eq!(config.ring.slots.len(), 2),
        Err(error) => assert!(!cfg!(feature = "s3") && error.to_string().contains("`s3`"), "{error}"),
    }
}

/// Each structure of the reader, and its members as they are written.
fn members() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let (mut structure, mut renamed) = (None, None);
    for line in READER.lines() {
        if let Some(name) = line.strip_prefix("pub(super) struct ") {
            structure = name.strip_suffix(" {");
        } else if line.starts_with("pub(super) enum ") {
            structure = None;
        } else if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split('"').next();
        } else if let (Some(structure), Some(field)) = (structure, line.strip_prefix("    pub(super) ")) {
            let name = field.split(':').next().unwrap();
            found.entry(structure).or_default().insert(renamed.take().unwrap_or(name));
        }
    }
    found
}

/// The members in the table below that heading.
fn documented<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let (_, below) = page.split_once(&format!("\n### {heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let below = below.split("\n### ").next().unwrap();
    below.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn every_member_of_the_policy_is_there_and_no_other() {
    let (page, members) = (page(), members());
    let known: BTreeSet<_> = PLACES.iter().map(|(structure, _)| *structure).collect();
    assert_eq!(members.keys().copied().collect::<BTreeSet<_>>(), known, "each structure has its place");
    assert!(members["SubjectEntry"].contains("self") && members["ClaimEntry"].contains("type"));
    for (structure, heading) in PLACES {
        assert_eq!(documented(&page, heading), members[structure], "### {heading}");
    }
}

#[test]
fn the_policy_that_has_every_member_is_good() {
    let page = page();
    let example = block(&page, "toml policy");
    let config = Config::read("slots = ['ES256', 'RS256:4096']", NONE).unwrap();
    let policy = Policy::parse(example, &config.ring).unwrap();
    assert_eq!(policy.clients().collect::<Vec<_>>(), ["billing", "legacy", "web"]);
    let words: BTreeSet<_> = example
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| !word.is_empty())
        .collect();
    for name in members().values().flatten() {
        assert!(words.contains(name), "{name} is not in the example");
    }
}
