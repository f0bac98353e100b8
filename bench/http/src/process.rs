//! What the kernel says of a process.

use std::fs;
use std::time::Duration;

use crate::Failure;

/// The unit of times in `/proc`, which does not depend on the kernel's own: `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// User and system time that all of its threads have used, those that have ended too.
pub fn cpu_time(pid: u32) -> Result<Duration, Failure> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// The most memory that it had resident at a time, in kB.
pub fn peak_kilobytes(pid: u32) -> Result<u64, Failure> {
    parse_peak(&fs::read_to_string(format!("/proc/{pid}/status"))?)
}

/// What processors have done since the system was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub busy: Duration,
    pub all: Duration,
    /// Wanted, and not had from the host.
    pub stolen: Duration,
}

pub fn machine() -> Result<Machine, Failure> {
    parse_machine(&fs::read_to_string("/proc/stat")?)
}

fn ticks(count: u64) -> Duration {
    TICK * u32::try_from(count).unwrap_or(u32::MAX)
}

/// The name of the program may have spaces and brackets in it; fields are counted from behind it.
fn parse_stat(stat: &str) -> Result<Duration, Failure> {
    let (_, fields) = stat.rsplit_once(") ").ok_or("a stat without a name")?;
    let mut times = fields.split(' ').skip(11);
    let mut next = || times.next().ok_or("a stat without times")?.parse::<u64>().map_err(Failure::from);
    Ok(ticks(next()? + next()?))
}

fn parse_peak(status: &str) -> Result<u64, Failure> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("a status without VmHWM")?;
    Ok(line.trim().strip_suffix(" kB").ok_or("VmHWM in another unit")?.parse()?)
}

/// user nice system idle iowait irq softirq steal; guests are in user.
fn parse_machine(stat: &str) -> Result<Machine, Failure> {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or("no line for all processors")?;
    let times = line.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [user, nice, system, idle, waiting, hard, soft, stolen] = times[..] else {
        return Err("too few times".into());
    };
    let busy = user + nice + system + hard + soft;
    Ok(Machine { busy: ticks(busy), all: ticks(busy + idle + waiting + stolen), stolen: ticks(stolen) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Machine, cpu_time, parse_machine, parse_peak, parse_stat, peak_kilobytes};

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 97 0 0 0 120 30 5 6 20 0 1 0 2666965 3133440 388";
        assert_eq!(parse_stat(stat).unwrap(), Duration::from_millis(1500));
        assert!(parse_stat("7 (a) S 1").is_err());
        assert!(parse_stat("").is_err());
    }

    #[test]
    fn the_peak_is_read_and_not_what_there_is() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n").unwrap(), 2048);
        assert!(parse_peak("Name:\tx\n").is_err());
    }

    #[test]
    fn stolen_time_is_neither_busy_nor_idle() {
        let machine = parse_machine("cpu  10 1 20 100 5 2 3 9 0 0\ncpu0 1 2\n").unwrap();
        let ms = Duration::from_millis;
        assert_eq!(machine, Machine { busy: ms(360), all: ms(1500), stolen: ms(90) });
    }

    #[test]
    fn the_kernel_has_these_files_about_us() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_ok());
        assert!(peak_kilobytes(pid).unwrap() > 0);
    }
}
