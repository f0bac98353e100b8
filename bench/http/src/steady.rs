//! While nothing happens: every contender in turn at each rate and at saturation, in rounds.

use std::time::Duration;

use crate::contender::{Contender, Kind, Site};
use crate::load::{Answer, CONNECTIONS, Pace, Plan, Shown, request};
use crate::measured::{Clients, Measured, answers, measure, over, ratio};
use crate::run::{Broken, Effort};
use crate::table::{self, Table, number, numbers};
use crate::{Failure, tokens};

/// What became of one contender.
pub struct Row {
    pub kind: Kind,
    /// The rounds at each rate, as `Effort` has them.
    pub constant: Vec<Vec<Measured>>,
    pub saturation: Vec<Measured>,
    /// Each process, the seconds that it has used, and the MB that it had at most.
    processes: Vec<(&'static str, f64, f64)>,
    requests: usize,
}

pub fn run(kinds: &[Kind], site: &Site<'_>, effort: &Effort, broken: &mut Broken) -> Result<Vec<Row>, Failure> {
    let tokens = tokens::tokens(site.provider, &site.provider.key(), effort.tokens);
    let mut contenders = Vec::new();
    let mut rows = Vec::new();
    for &kind in kinds {
        contenders.push(Contender::start(kind, site, &tokens[0])?);
        let constant = effort.rates.iter().map(|_| Vec::new()).collect();
        rows.push(Row { kind, constant, saturation: Vec::new(), processes: Vec::new(), requests: 0 });
    }
    let paces = (0..effort.rates.len()).map(Some).chain([None]);
    for (pass, (round, pace)) in
        (0..effort.rounds).flat_map(|round| paces.clone().map(move |pace| (round, pace))).enumerate()
    {
        for at in 0..contenders.len() {
            // Another one goes first each time.
            let at = (at + pass) % contenders.len();
            let (contender, row) = (&contenders[at], &mut rows[at]);
            let before: Vec<_> =
                tokens.iter().map(|token| Shown { group: 0, octets: request(contender.address, token) }).collect();
            let plan = Plan {
                address: contender.address,
                connections: CONNECTIONS,
                pace: pace.map_or(Pace::Saturation, |at| Pace::Constant(effort.rates[at])),
                warm_up: effort.warm_up,
                length: effort.steady,
                before: &before,
                after: &[],
            };
            let (measured, seen) = measure(&contender.servers, &plan, |_| Ok(()))?;
            row.requests += seen.answered;
            eprintln!("round {round}, {:?}, {}: p99 {:.2} ms", plan.pace, row.kind.name(), measured.p99);
            let refused = |answer: &Answer| !matches!(answer, Answer::Status(200) | Answer::Missing);
            let bad = seen.samples.iter().filter(|sample| refused(&sample.answer)).count();
            broken.expect(&format!("{}: all get 200", row.kind.name()), bad == 0, || {
                table::answers(&answers(&seen.samples))
            });
            broken.expect_answers(row.kind, &seen.samples);
            match pace {
                Some(at) => row.constant[at].push(measured),
                None => row.saturation.push(measured),
            }
            std::thread::sleep(BETWEEN);
        }
    }
    for (contender, row) in contenders.iter().zip(&mut rows) {
        for server in &contender.servers {
            let used = (server.role, server.cpu_time()?.as_secs_f64(), server.peak_kilobytes()? as f64 / 1024.0);
            row.processes.push(used);
        }
    }
    Ok(rows)
}

/// For what one leaves behind to be over when the next one begins.
const BETWEEN: Duration = Duration::from_millis(100);

pub fn tables(rows: &[Row], effort: &Effort) -> String {
    let mut text = String::new();
    for (at, rate) in effort.rates.iter().enumerate() {
        text.push_str(&constant(rows, at, *rate));
    }
    text.push_str(&saturation(rows));
    text.push_str(&processes(rows));
    text
}

fn find(rows: &[Row], kind: Kind) -> Option<&Row> {
    rows.iter().find(|row| row.kind == kind)
}

fn constant(rows: &[Row], at: usize, rate: u32) -> String {
    let mut table = Table::new(
        1,
        &[
            "",
            "answers/s",
            "p50, ms",
            "p99, ms",
            "p99.9, ms",
            "p99 of each round",
            "p99 × without",
            "server CPU, µs/request",
            "of which authentication",
            "not 200",
        ],
    );
    for row in rows {
        let rounds = &row.constant[at];
        let Some(base) = find(rows, row.kind.baseline()).map(|base| &base.constant[at]) else { continue };
        let cpu = |measured: &Measured| measured.cpu_per_request;
        let late = if rounds.iter().all(|round| round.keeps_up(rate)) { "" } else { ", does not keep up" };
        let checks = row.kind.checks();
        let of_checking = |text: String| if checks { text } else { String::new() };
        table.row(&[
            format!("{}{late}", row.kind.name()),
            format!("{:.0}", over(rounds, |round| round.rate)),
            number(over(rounds, |round| round.p50)),
            number(over(rounds, |round| round.p99)),
            number(over(rounds, |round| round.p999)),
            numbers(rounds.iter().map(|round| round.p99)),
            of_checking(number(ratio(rounds, base, |round| round.p99).0)),
            number(over(rounds, cpu)),
            of_checking(number(over(rounds, cpu) - over(base, cpu))),
            rounds.iter().map(Measured::failures).sum::<usize>().to_string(),
        ]);
    }
    let clients = rows.iter().flat_map(|row| &row.constant[at]).map(|round| &round.clients);
    format!(
        "### At {rate} requests a second\n\n{}\n{}{}\n",
        table.finish(),
        ratios(rows, at, rate),
        Clients::sentence(clients)
    )
}

/// What the tables come to.
fn ratios(rows: &[Row], at: usize, rate: u32) -> String {
    let mut text = String::new();
    let of = |kind| find(rows, kind).map_or(&[][..], |row| &row.constant[at]);
    let (plain, ours) = (of(Kind::Plain), of(Kind::Countersign));
    let against = |ours: &[Measured], theirs: &[Measured]| ratio(ours, theirs, |round| round.p99);
    let (median, all) = against(ours, plain);
    text.push_str(&above_plain(median, &all));
    for row in rows.iter().filter(|row| matches!(row.kind, Kind::Central(_))) {
        let theirs = &row.constant[at];
        let keeps_up = theirs.iter().all(|round| round.keeps_up(rate));
        text.push_str(&below_central(row.kind, keeps_up, against(ours, theirs).0, against(plain, theirs).0));
    }
    text.push('\n');
    text
}

/// A sentence on p99 beside that of the service without authentication.
pub fn above_plain(median: f64, rounds: &[f64]) -> String {
    format!(
        "- p99 of countersign is **{} times** that of the same service without authentication (wanted: at most 1.05); round by \
         round: {}.\n",
        number(median),
        numbers(rounds.iter().copied()),
    )
}

/// A sentence on p99 beside that of a central validator, of which one that does some work is what is found in the field.
pub fn below_central(kind: Kind, keeps_up: bool, ours: f64, plain: f64) -> String {
    let beside =
        |ratio: f64| format!("{:.1} % {}", (1.0 - ratio).abs() * 100.0, if ratio > 1.0 { "above" } else { "below" });
    format!(
        "- p99 of countersign is **{}** that of the {}{}{}; that of the service without authentication is {}.\n",
        beside(ours),
        kind.name(),
        if keeps_up { "" } else { ", which is overloaded" },
        if kind == Kind::Central(0) { "" } else { " (wanted: at least 82 % below)" },
        beside(plain),
    )
}

fn saturation(rows: &[Row]) -> String {
    let columns = [
        "",
        "answers/s",
        "of each round",
        "× without",
        "p50, ms",
        "p99, ms",
        "server CPU, µs/request",
        "server busy",
        "clients idle",
    ];
    let mut table = Table::new(1, &columns);
    for row in rows {
        let rounds = &row.saturation;
        let Some(base) = find(rows, row.kind.baseline()).map(|base| &base.saturation) else { continue };
        table.row(&[
            row.kind.name().to_owned(),
            format!("{:.0}", over(rounds, |round| round.rate)),
            rounds.iter().map(|round| format!("{:.0}", round.rate)).collect::<Vec<_>>().join(" "),
            if row.kind.checks() { number(ratio(rounds, base, |round| round.rate).0) } else { String::new() },
            number(over(rounds, |round| round.p50)),
            number(over(rounds, |round| round.p99)),
            number(over(rounds, |round| round.cpu_per_request)),
            format!("{:.0} %", over(rounds, |round| round.busy) * 100.0),
            format!("{:.0} %", over(rounds, |round| round.clients.idle) * 100.0),
        ]);
    }
    format!(
        "### At saturation\n\nAll connections ask again as soon as they are answered. Where the clients had no idle time, they \
         were the bottleneck, and not the server.\n\n{}\n",
        table.finish()
    )
}

fn processes(rows: &[Row]) -> String {
    let columns = ["", "process", "CPU-seconds", "peak resident, MB", "requests"];
    let mut table = Table::new(2, &columns);
    for row in rows {
        for (role, seconds, megabytes) in &row.processes {
            let requests = row.requests.to_string();
            table.row(&[
                row.kind.name().to_owned(),
                (*role).to_owned(),
                number(*seconds),
                number(*megabytes),
                requests,
            ]);
        }
    }
    format!("### What each process has used in all of this\n\n{}\n", table.finish())
}
