//! The results to look at.

use countersign_plot::{Bar, Line, bars, lines};

use crate::contender::Kind;
use crate::events::Events;
use crate::measured::over;
use crate::run::Effort;
use crate::steady::Row;

/// How the rotation went.
pub fn rotation(events: &Events, effort: &Effort) -> String {
    let line = |(kind, points): (Kind, Vec<(f64, f64)>)| Line {
        label: kind.name().to_owned(),
        points,
        ours: kind == Kind::Countersign,
    };
    let lines_of: Vec<Line> = events.rotation().into_iter().map(line).collect();
    let subtitle = format!("p99 of each 250 ms at {} requests a second; the lower the better", effort.event_rate);
    let mark = (effort.before.as_secs_f64(), "the key changes".to_owned());
    lines("Through a key rotation", &subtitle, "s", "ms", &lines_of, &[mark])
}

/// How long the slowest hundredth takes at the first rate.
pub fn p99(rows: &[Row], effort: &Effort) -> String {
    let bar = |row: &Row| Bar {
        label: row.kind.name().replace('`', ""),
        value: over(&row.constant[0], |round| round.p99),
        ours: row.kind == Kind::Countersign,
    };
    let bars_of: Vec<Bar> = rows.iter().map(bar).collect();
    let subtitle = format!("p99 at {} requests a second; the lower the better", effort.rates[0]);
    bars("What authentication adds to a request", &subtitle, "ms", &bars_of)
}
