//! `results`: prints the results that a running gateway has, for a spreadsheet. An ordinary client of the public API.

use std::io::{self, Write as _};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::gateway_options::GatewayOptions;
use super::read_list::{List, given};
use super::{Failure, Process};
use crate::domain::results::{Activity, Grading};

/// Print the results of exams that a running gateway has
#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Options {
    /// Print a table of comma-separated values
    #[arg(long, required = true)]
    csv: bool,
    /// Only of this assignment
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    assignment: Option<String>,
    /// Only of this candidate
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    candidate: Option<String>,
    /// Only of candidates with this id of your own
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    external_id: Option<String>,
    /// Only of this assessment: its catalogue id or the vendor's own id
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    assessment: Option<String>,
    /// Only on this connection
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    connection: Option<String>,
    /// Only attempts that have got this far
    #[arg(long, value_name = "WORD", value_parser = activities(), help_heading = FILTER)]
    activity: Option<String>,
    /// Only results with this grading
    #[arg(long, value_name = "WORD", value_parser = gradings(), help_heading = FILTER)]
    grading: Option<String>,
    /// Only attempts that count, or only those that do not
    #[arg(long, value_name = "BOOL", help_heading = FILTER)]
    counts: Option<bool>,
    /// Only results that have changed at or after this time, such as 2026-11-22T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    modified_since: Option<String>,
    #[command(flatten)]
    gateway: GatewayOptions,
}

const FILTER: &str = "Filter";

const HELP: &str = "\
Examples:
  export EXAMGATE_API_KEY=egk_...
  examgate results --csv > results.csv
  examgate results --csv --assessment rust-101 --grading fully_graded --counts true > rust-101.csv
  examgate results --csv --connection main --modified-since 2026-11-01T00:00:00Z --url https://exams.example.com

The table has one row for each attempt, newest first: UTF-8 with a byte order mark, every cell in quotation marks, columns \
named like the fields of the API. A cell without a value is empty: a score that the vendor has not reported is not zero. Text \
that a spreadsheet would evaluate (beginning with = + - @, tab or line break) gets an apostrophe in front. Scores are \
personal data. The key needs the scope results:read.

Exit code: 0 the table is complete; 1 the gateway is unreachable or failed, and what was printed is incomplete; 2 an error in \
command line, key or rights.";

fn activities() -> clap::builder::PossibleValuesParser {
    Activity::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().into()
}

fn gradings() -> clap::builder::PossibleValuesParser {
    Grading::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().into()
}

impl Options {
    /// Returns the parameters of the request.
    fn query(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self {
            csv: _,
            assignment,
            candidate,
            external_id,
            assessment,
            connection,
            activity,
            grading,
            counts,
            modified_since,
            gateway: _,
        } = self;
        given([
            ("assignment", assignment.clone()),
            ("candidate", candidate.clone()),
            ("externalId", external_id.clone()),
            ("assessment", assessment.clone()),
            ("connection", connection.clone()),
            ("activity", activity.clone()),
            ("grading", grading.clone()),
            ("counts", counts.map(|counts| counts.to_string())),
            ("modifiedSince", modified_since.clone()),
        ])
    }
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let list = List { name: "results", exposed: "the key and the results", gateway: &options.gateway };
    list.read(options.query(), process, async |client, url| {
        let mut output = io::stdout().lock();
        client.download(url, "text/csv", |part| output.write_all(part).map_err(Failure::stdout)).await?;
        output.flush().map_err(Failure::stdout)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_filter_is_a_parameter_of_the_request() {
        let line = "results --csv --assignment a --candidate b --external-id c --assessment d --connection e \
                    --activity completed --grading pending --counts false --modified-since f";
        let options = CommandLine::parse_from(line.split_whitespace()).options;
        let query: Vec<String> = options.query().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = "assignment=a candidate=b externalId=c assessment=d connection=e activity=completed grading=pending \
                        counts=false modifiedSince=f";
        assert_eq!(query.join(" "), expected);
        let options = CommandLine::parse_from(["results", "--csv"]).options;
        assert_eq!(options.query().count(), 0);
    }
}
