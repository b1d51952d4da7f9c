//! What an import says about a table before it sends it: what was guessed, left out and decided.

use crate::sheet::convert::Remarks;
use crate::sheet::mapping::Plan;
use crate::sheet::source::Source;
use crate::sheet::times::Times;

/// How many lines are named.
const MAX_LINES: usize = 5;

/// Collects the notes about a table.
pub(crate) fn of(source: &Source, title_rows: usize, plan: &Plan<'_>, remarks: &Remarks, times: &Times) -> Vec<String> {
    let mut notes = source.notes.clone();
    if title_rows > 0 {
        notes.push(format!("{} above the column names not sent", count(title_rows, "row", "rows")));
    }
    if !plan.left_out.is_empty() {
        notes.push(format!("columns not sent: {}", plan.left_out.join(", ")));
    }
    let zone = times.zone.as_ref().map_or("this zone", |zone| &zone.name);
    let affected = |found: &[u64], one: &str, several: &str| {
        (!found.is_empty()).then(|| format!("{} ({})", count(found.len(), one, several), lines(found)))
    };
    notes.extend(
        [
            affected(&remarks.needs_zone, "row has a date or local time", "rows have dates or local times").map(
                |affected| {
                    let cure = plan.wording.choose(
                        "give one with --time-zone, as --time-zone Europe/Berlin",
                        "give one, such as Europe/Berlin",
                    );
                    format!("{affected}; the gateway refuses them without a zone: {cure}")
                },
            ),
            affected(&remarks.needs_format, "row has a date", "rows have dates").map(|affected| {
                let cure = plan.wording.choose("give --date-format dd/mm/yyyy or mm/dd/yyyy", "choose the order");
                format!("{affected} in which day and month can be either; {cure}")
            }),
            affected(&remarks.skipped_times, "row has a time", "rows have times")
                .map(|affected| format!("{affected} that the clocks skip in {zone}; taken as an hour later")),
            affected(&remarks.repeated_times, "row has a time", "rows have times")
                .map(|affected| format!("{affected} that occurs twice in {zone}; taken as the first")),
            affected(&remarks.skipped, "row", "rows")
                .map(|affected| format!("left out by the rules of the layout or map file: {affected}")),
            affected(&remarks.empty, "row", "rows")
                .map(|affected| format!("left out, since no column that is sent has a value: {affected}")),
            affected(&remarks.applied, "row", "rows")
                .map(|affected| format!("left out, since applied already: {affected}")),
        ]
        .into_iter()
        .flatten(),
    );
    notes
}

/// Says why there is nothing to send.
pub(crate) fn no_rows(remarks: &Remarks) -> String {
    if !remarks.applied.is_empty() {
        "has no rows left to send: all are applied".to_owned()
    } else if remarks.skipped.is_empty() && remarks.empty.is_empty() {
        "has no rows below the row of column names".to_owned()
    } else {
        "has no rows to send: all are left out".to_owned()
    }
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// Names lines: `lines 2, 3 and 7`.
pub(crate) fn lines(lines: &[u64]) -> String {
    let named: Vec<String> = lines.iter().take(MAX_LINES).map(u64::to_string).collect();
    match (lines.len(), named.split_last()) {
        (1, _) => format!("line {}", named.concat()),
        (number, _) if number > MAX_LINES => format!("lines {}, …", named.join(", ")),
        (_, Some((last, others))) => format!("lines {} and {last}", others.join(", ")),
        (_, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_briefly() {
        assert_eq!(lines(&[2]), "line 2");
        assert_eq!(lines(&[2, 3]), "lines 2 and 3");
        assert_eq!(lines(&[2, 3, 7]), "lines 2, 3 and 7");
        assert_eq!(lines(&[1, 2, 3, 4, 5, 6]), "lines 1, 2, 3, 4, 5, …");
    }
}
