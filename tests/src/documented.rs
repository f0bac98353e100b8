//! `FAILURES.md` and `REFUSALS.md`, read as data: what they say a request gets is what the tests demand.

use std::collections::BTreeMap;
use std::time::Duration;

const FAILURES: &str = include_str!("../../FAILURES.md");
const REFUSALS: &str = include_str!("../../REFUSALS.md");

/// What a fetch over loopback takes at most, on a busy machine.
pub const A_FETCH: Duration = Duration::from_secs(1);

/// A row of one of its tables: cells by the headings of their columns, without code ticks.
#[derive(Clone, Debug)]
pub struct Row(BTreeMap<String, String>);

/// The rows of the table of `FAILURES.md` whose first column has that heading. None if there is no such table.
#[must_use]
pub fn rows(first_heading: &str) -> Vec<Row> {
    rows_of(FAILURES, first_heading)
}

/// The same of `REFUSALS.md`.
#[must_use]
pub fn refusal_rows(first_heading: &str) -> Vec<Row> {
    rows_of(REFUSALS, first_heading)
}

fn rows_of(document: &str, first_heading: &str) -> Vec<Row> {
    let mut lines =
        document.lines().map(cells).skip_while(|cells| cells.first().is_none_or(|first| first != first_heading));
    let Some(headings) = lines.next() else { return Vec::new() };
    lines
        .skip(1)
        .take_while(|cells| !cells.is_empty())
        .map(|cells| Row(headings.iter().cloned().zip(cells).collect()))
        .collect()
}

/// Whether that is what a cell says: of a text that ends in `…`, the beginning.
#[must_use]
pub fn is_said(cell: &str, said: &str) -> bool {
    match cell.strip_suffix('…') {
        Some(beginning) => said.starts_with(beginning) && said.len() > beginning.len(),
        None => cell == said,
    }
}

fn cells(line: &str) -> Vec<String> {
    let cells = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|'));
    cells.map(|cells| cells.split('|').map(|cell| cell.trim().replace('`', "")).collect()).unwrap_or_default()
}

impl Row {
    /// What it says there.
    ///
    /// # Panics
    /// If there is no such column.
    #[must_use]
    pub fn cell(&self, heading: &str) -> &str {
        self.0.get(heading).unwrap_or_else(|| unreachable!("no column {heading:?}"))
    }

    /// What it says there; `None` for a dash, which stands for nothing.
    #[must_use]
    pub fn said(&self, heading: &str) -> Option<&str> {
        Some(self.cell(heading)).filter(|cell| *cell != "–")
    }

    /// What it says there, as a time such as `24 h` or `5 s and a fetch`; `None` if that is none.
    #[must_use]
    pub fn time(&self, heading: &str) -> Option<Duration> {
        let text = self.cell(heading);
        let (text, more) = text.strip_suffix(" and a fetch").map_or((text, Duration::ZERO), |text| (text, A_FETCH));
        let (number, unit) = text.split_once(' ')?;
        let seconds = match unit {
            "s" => 1,
            "h" => 60 * 60,
            _ => return None,
        };
        Some(Duration::from_secs(number.parse::<u64>().ok()? * seconds) + more)
    }

    /// Whether somebody may see these statuses, in this order. The cell has them as in `200, then 401 or 429`: each phase
    /// occurs, and one follows the other.
    #[must_use]
    pub fn allows(&self, heading: &str, statuses: impl IntoIterator<Item = u16>) -> bool {
        let phases: Vec<Vec<&str>> =
            self.cell(heading).split(", then ").map(|phase| phase.split(" or ").collect()).collect();
        let mut phase = None;
        for status in statuses.into_iter().map(|status| status.to_string()) {
            let from = phase.unwrap_or(0);
            let has = |phase: usize| phases.get(phase).is_some_and(|phase| phase.contains(&status.as_str()));
            phase = match (phase.is_some(), has(from), has(from + 1)) {
                (_, true, _) => Some(from),
                (true, false, true) => Some(from + 1),
                _ => return false,
            };
        }
        phase.is_some_and(|phase| phase + 1 == phases.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_allows_its_phases_in_their_order_and_nothing_else() {
        let row = Row(BTreeMap::from([("seen".to_owned(), "200, then 401 or 429".to_owned())]));
        for (statuses, allowed) in [
            (&[200, 200, 401, 429, 401][..], true),
            (&[200, 429], true),
            (&[200], false),
            (&[401], false),
            (&[], false),
            (&[200, 401, 200], false),
            (&[200, 503], false),
        ] {
            assert_eq!(row.allows("seen", statuses.iter().copied()), allowed, "{statuses:?}");
        }
    }
}
