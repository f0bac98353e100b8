//! Who runs where: what serves on one processor, everything else on another.

use std::fs;
use std::process::Command;

use crate::Failure;

/// Two processors of those that we may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    pub server: usize,
    pub clients: usize,
}

impl Cores {
    /// The first and the last that we may use.
    pub fn choose() -> Result<Self, Failure> {
        let status = fs::read_to_string("/proc/self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cores = parse_list(list.ok_or("a status without processors")?.trim())?;
        match (cores.first(), cores.last()) {
            (Some(&server), Some(&clients)) if server != clients => Ok(Self { server, clients }),
            _ => Err("this needs two processors".into()),
        }
    }

    /// Moves this process, which has to have one thread yet, to the clients' processor; later threads follow.
    pub fn take_clients(self) -> Result<(), Failure> {
        of_this_process("taskset", &["-c", "-p", &self.clients.to_string()])
    }

    /// Whether they are two threads of one core, which slow each other down.
    pub fn are_siblings(self) -> Option<bool> {
        let path = format!("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", self.server);
        Some(parse_list(fs::read_to_string(path).ok()?.trim()).ok()?.contains(&self.clients))
    }
}

/// Before all programs that have no such priority; later threads and processes have it too.
pub fn take_precedence() -> Result<(), Failure> {
    of_this_process("chrt", &["-f", "-p", "1"])
}

fn of_this_process(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).arg(std::process::id().to_string()).output();
    let output = output.map_err(|error| format!("{program} (of util-linux): {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim()).into()) }
}

/// As in `0-3,8`.
fn parse_list(list: &str) -> Result<Vec<usize>, Failure> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn lists_of_processors_have_ranges() {
        assert_eq!(parse_list("0-2,5").unwrap(), [0, 1, 2, 5]);
        assert_eq!(parse_list("3").unwrap(), [3]);
        assert!(parse_list("").is_err());
    }
}
