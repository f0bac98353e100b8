//! What was measured, where and how: without it the numbers say nothing.

use std::process::Command;

use crate::contender::Site;
use crate::load::CONNECTIONS;
use crate::run::Effort;

/// Which of the libraries matter.
const LIBRARIES: [&str; 5] = ["axum", "hyper", "tokio", "jsonwebtoken", "aws-lc-rs"];

pub fn text(site: &Site<'_>, effort: &Effort, realtime: bool) -> String {
    let versions =
        LIBRARIES.map(|name| format!("{name} {}", version(include_str!("../../Cargo.lock"), name))).join(", ");
    let proxy = |path: &Option<std::path::PathBuf>, argument: &str| {
        path.as_ref()
            .and_then(|path| said(path.to_str()?, &[argument]))
            .map(|said| format!("; {said}"))
            .unwrap_or_default()
    };
    let siblings = match site.cores.are_siblings() {
        Some(true) => "two threads of one core, which slow each other down",
        Some(false) => "no threads of one core, as far as the system knows",
        None => "of which the system says nothing",
    };
    format!(
        "{machine}; {versions}{envoy}{haproxy}.\n\n\
         Processor {server} has what serves, the central validator, Envoy and HAProxy among it, so that its time is the whole cost \
         of an answer; processor {clients} has the clients and the identity provider. They are \
         {siblings}. Loopback has no \
         network in it: a central validator elsewhere costs its round trip besides.{precedence}\n\n\
         {CONNECTIONS} kept connections (as many again for the tokens of a second key), {tokens} RS256 tokens of some 900 bytes in turn, {rounds} rounds of {steady} s in which \
         contenders take turns; a number is the median of the rounds, a ratio the median of the ratios in each round. Time counts \
         from the moment at which a request was due, whenever it could be sent.\n",
        machine = machine(),
        envoy = proxy(&site.envoy, "--version"),
        haproxy = proxy(&site.haproxy, "-v"),
        precedence = if realtime { " All of them run with real-time priority, before other programs." } else { "" },
        server = site.cores.server,
        clients = site.cores.clients,
        tokens = effort.tokens,
        rounds = effort.rounds,
        steady = effort.steady.as_secs_f64(),
    )
}

/// When, on what, and built by what.
pub fn machine() -> String {
    format!(
        "{date}, {cpu}, Linux {kernel}; {rustc}",
        date = said("date", &["-u", "+%F"]).unwrap_or_default(),
        cpu = cpu(),
        kernel = said("uname", &["-r"]).unwrap_or_default(),
        rustc = said("rustc", &["--version"]).unwrap_or_default(),
    )
}

/// The first line that a program prints.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    // Envoy says where it is from, and its version as the second part of a path.
    let line = match line.rsplit_once("version: ") {
        Some((_, version)) => format!("Envoy {}", version.split('/').nth(1).unwrap_or(version)),
        None => line.split(" - ").next().unwrap_or(line).to_owned(),
    };
    Some(line.trim().to_owned())
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{} ({} processors, {count} here)",
        name.map_or("an unnamed processor", |(_, name)| name),
        processors(&text)
    )
}

fn processors(cpuinfo: &str) -> usize {
    cpuinfo.lines().filter(|line| line.starts_with("processor")).count()
}

/// Of a package in a lock file: the one that this program has, or, if it has it by way of another, the highest.
fn version<'a>(lock: &'a str, name: &str) -> &'a str {
    let own = lock
        .split("[[package]]")
        .find(|package| package.contains(concat!("name = \"", env!("CARGO_PKG_NAME"), "\"\n")));
    // Where there are several, a dependency says which.
    let own = own.and_then(|package| {
        package
            .lines()
            .find_map(|line| line.strip_prefix(" \"")?.strip_prefix(name)?.strip_prefix(' ')?.strip_suffix("\","))
    });
    if let Some(version) = own {
        return version;
    }
    let versions = lock.split("[[package]]").filter_map(|package| {
        let text = |key: &str| {
            package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        (text("name")? == name).then(|| text("version"))?
    });
    versions.last().unwrap_or("of no known version")
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_is_that_of_the_package_and_not_of_one_that_needs_it() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\n \"b\",\n]\n\n\
                    [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        assert_eq!(version(lock, "b"), "2.0.0");
        assert_eq!(version(lock, "c"), "of no known version");
        let lock = format!(
            "{lock}\n[[package]]\nname = \"b\"\nversion = \"3.0.0\"\n\n\
             [[package]]\nname = \"countersign-bench-http\"\ndependencies = [\n \"b 2.0.0\",\n]\n"
        );
        assert_eq!(version(&lock, "b"), "2.0.0");
    }
}
