//! Tables and plots of what was measured.

use std::fmt::Write as _;

use countersign_bench::{Failure, machine};
use countersign_plot::{Bar, bars};

use crate::back_end::BackEnd;
use crate::contenders::{Entrant, Kind};
use crate::measure::{Column, Figures};

/// A plot, and the name of its file.
pub struct Plot {
    pub file: &'static str,
    pub svg: String,
}

/// All tables, as they stand in the README.
pub fn tables(entrants: &[Entrant], columns: &[Column]) -> Result<String, Failure> {
    let mut text = format!("{}\n", machine::sentence()?);
    let sizes: Vec<String> =
        columns.iter().map(|column| format!("{} ({})", column.token_bytes, column.algorithm)).collect();
    let _ = writeln!(text, "Tokens have {} bytes.\n", sizes.join(", "));

    text.push_str("### Distinct tokens in turn\n\n");
    text.push_str("× bare signature check (µs)\n\n");
    text.push_str(&times(entrants, columns, |figures| Some(figures.distinct)));
    text.push_str("\n### The same token again\n\n");
    text.push_str("× bare signature check (µs)\n\n");
    text.push_str(&times(entrants, columns, |figures| figures.same));
    text.push_str("\n### Allocations per request\n\n");
    text.push_str("allocations (bytes asked for)\n\n");
    text.push_str(&table(entrants, columns, |column, at| {
        let figures = column.rows[at].as_ref().ok()?;
        Some(format!("{:.0} ({:.0})", figures.allocations, figures.allocated_bytes))
    }));
    text.push_str("\n### Refusals\n\n");
    text.push_str(
        "× bare signature check that fails (the answer's status; *waits* is for a fetch, and on the wall)\n\n",
    );
    text.push_str(&refusals(entrants, columns));
    text.push_str(&absences(entrants, columns));
    Ok(text)
}

/// RS256 only: it is what most issuers sign with.
pub fn plots(entrants: &[Entrant], columns: &[Column]) -> Result<Vec<Plot>, Failure> {
    let column = columns.first().ok_or("nothing was measured")?;
    let bare = figures(column, 0).ok_or("the bare check is the first row")?;
    let algorithm = column.algorithm;
    let (bare_distinct, bare_same) = (bare.distinct, bare.same.unwrap_or(f64::NAN));

    let first_sight =
        sorted(entrants, column, &[Kind::OursAnew, Kind::Service], |figures| Some(figures.distinct - bare_distinct));
    let seen_before = sorted(entrants, column, &[Kind::Ours, Kind::Service], |figures| figures.same);
    let mut seen_before = seen_before;
    seen_before.push(Bar { label: "(the bare signature check)".to_owned(), value: bare_same, ours: false });
    let allocations =
        sorted(entrants, column, &[Kind::OursAnew, Kind::Ours, Kind::Service], |figures| Some(figures.allocations));
    Ok(vec![
        Plot {
            file: "first-sight.svg",
            svg: bars(
                &format!("{algorithm}, first sight of a token: time beyond the bare signature check"),
                "One tower::Service call each, claims delivered to the handler; less is better",
                "µs",
                &first_sight,
            ),
        },
        Plot {
            file: "seen-before.svg",
            svg: bars(
                &format!("{algorithm}, a token that has been seen before: time per request"),
                "One tower::Service call each, claims delivered to the handler; less is better",
                "µs",
                &seen_before,
            ),
        },
        Plot {
            file: "allocations.svg",
            svg: bars(
                &format!("{algorithm}: allocations per request"),
                "With those of making the request; less is better",
                "",
                &allocations,
            ),
        },
    ])
}

fn figures(column: &Column, at: usize) -> Option<&Figures> {
    column.rows.get(at)?.as_ref().ok()
}

fn times(entrants: &[Entrant], columns: &[Column], time: fn(&Figures) -> Option<f64>) -> String {
    table(entrants, columns, |column, at| {
        let (micros, bare) = (time(figures(column, at)?)?, time(figures(column, 0)?)?);
        Some(format!("{} ({micros:.2})", ratio(micros / bare)))
    })
}

/// A column for each algorithm, a row for each contender that has anything in it.
fn table(entrants: &[Entrant], columns: &[Column], cell: impl Fn(&Column, usize) -> Option<String>) -> String {
    let mut text = String::from("| | cryptography |");
    for column in columns {
        let _ = write!(text, " {} |", column.algorithm);
    }
    let _ = write!(text, "\n|---|---|{}\n", "---:|".repeat(columns.len()));
    for (at, entrant) in entrants.iter().enumerate() {
        let cells: Vec<Option<String>> = columns.iter().map(|column| cell(column, at)).collect();
        // Who is refused everywhere has a row nevertheless; who does not take part in this table has none.
        if cells.iter().all(Option::is_none) && columns.iter().any(|column| column.rows[at].is_ok()) {
            continue;
        }
        let _ = write!(text, "| {} | {} |", shown(entrant), entrant.back_end.name());
        for cell in cells {
            let _ = write!(text, " {} |", cell.unwrap_or_else(|| "–".to_owned()));
        }
        text.push('\n');
    }
    text
}

fn refusals(entrants: &[Entrant], columns: &[Column]) -> String {
    let columns: Vec<&Column> = columns.iter().filter(|column| !column.refusals.is_empty()).collect();
    let mut text = String::from("| | cryptography |");
    for column in &columns {
        for what in ["bad signature", "expired", "unknown `kid`"] {
            let _ = write!(text, " {}, {what} |", column.algorithm);
        }
    }
    let _ = write!(text, "\n|---|---|{}\n", "---:|---:|---:|".repeat(columns.len()));
    for (at, entrant) in entrants.iter().enumerate() {
        if columns.iter().all(|column| column.refusals[at].iter().all(Option::is_none)) {
            continue;
        }
        let _ = write!(text, "| {} | {} |", shown(entrant), entrant.back_end.name());
        for column in &columns {
            let bare = column.refusals[0][0].map_or(f64::NAN, |refused| refused.micros);
            for refused in column.refusals[at] {
                let _ = match refused {
                    Some(refused) if matches!(entrant.kind, Kind::Raw | Kind::Library) => {
                        write!(text, " {} |", ratio(refused.micros / bare))
                    }
                    Some(refused) => {
                        let waits = if refused.waits { ", waits" } else { "" };
                        write!(text, " {} ({}{waits}) |", ratio(refused.micros / bare), refused.status.as_u16())
                    }
                    None => write!(text, " – |"),
                };
            }
        }
        text.push('\n');
    }
    text
}

/// Why who is missing where.
fn absences(entrants: &[Entrant], columns: &[Column]) -> String {
    let mut text = String::new();
    for (at, entrant) in entrants.iter().enumerate() {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for column in columns {
            let Err(reason) = &column.rows[at] else { continue };
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, algorithms)) => algorithms.push(column.algorithm.name()),
                None => reasons.push((reason, vec![column.algorithm.name()])),
            }
        }
        for (reason, algorithms) in reasons {
            let _ = writeln!(text, "- {} with {}: {reason}.", shown(entrant), algorithms.join(", "));
        }
    }
    if text.is_empty() { text } else { format!("\nMissing above:\n\n{text}") }
}

/// Ours first, then the others from the least on.
fn sorted(entrants: &[Entrant], column: &Column, kinds: &[Kind], value: impl Fn(&Figures) -> Option<f64>) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for (at, entrant) in entrants.iter().enumerate() {
        let value = figures(column, at).and_then(&value);
        if let (true, Some(value)) = (kinds.contains(&entrant.kind), value) {
            let ours = matches!(entrant.kind, Kind::Ours | Kind::OursAnew);
            let label = match entrant.back_end {
                BackEnd::RustCrypto => format!("{} (RustCrypto)", entrant.name),
                _ => entrant.name.clone(),
            };
            bars.push(Bar { label, value, ours });
        }
    }
    bars.sort_by(|one, other| {
        other.ours.cmp(&one.ours).then(if one.ours {
            std::cmp::Ordering::Equal
        } else {
            one.value.total_cmp(&other.value)
        })
    });
    bars
}

fn shown(entrant: &Entrant) -> String {
    match entrant.kind {
        Kind::Ours | Kind::OursAnew => format!("**{}**", entrant.name),
        Kind::Library => format!("{}, a function call", entrant.name),
        _ => entrant.name.clone(),
    }
}

fn ratio(value: f64) -> String {
    match value {
        value if value < 0.1 => format!("{value:.3}"),
        value if value < 100.0 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    }
}
