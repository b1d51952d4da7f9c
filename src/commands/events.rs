//! `events`: prints the events that a running gateway has, and follows those that come. An ordinary client of the
//! public API.

use std::io::{self, Write as _};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::gateway_options::GatewayOptions;
use super::read_list::{List, given};
use super::{Failure, Process};

/// Print the events of a running gateway as they happen
#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Options {
    /// Wait for further events, until the command is ended
    #[arg(long, required = true)]
    follow: bool,
    /// Only events after this one: a number, a cursor, or "latest"
    #[arg(long, value_name = "POSITION", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    after: Option<String>,
    /// Only events of these types, such as "result.*,assignment.settled"
    #[arg(long, value_name = "TYPES", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    types: Option<String>,
    /// Only events about this assignment
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), help_heading = FILTER)]
    assignment: Option<String>,
    #[command(flatten)]
    gateway: GatewayOptions,
}

const FILTER: &str = "Filter";

const HELP: &str = "\
Examples:
  export EXAMGATE_API_KEY=egk_...
  examgate events --follow
  examgate events --follow --after latest --types 'result.*' | jq -r .data.resource
  examgate events --follow --after 4711 --url https://exams.example.com

Prints one JSON document a line, oldest first, beginning with the oldest event that is kept. While the gateway is away, the command \
connects again and continues after the last event it has printed: it prints each event once. The `sequence` of the last line is what \
--after takes to continue later. An event holds nothing of a person. The key needs the scope events:read.

Exit code: 1 the gateway was unreachable for longer than --patience; 2 an error in command line, key or rights, or the events after the \
position are no longer kept.";

impl Options {
    /// Returns the parameters of the request.
    fn query(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { follow: _, after, types, assignment, gateway: _ } = self;
        given([("after", after.clone()), ("types", types.clone()), ("assignment", assignment.clone())])
    }
}

pub(super) fn run(options: &Options, process: &Process) -> Result<(), Failure> {
    let list = List { name: "events", exposed: "the key", gateway: &options.gateway };
    list.read(options.query(), process, async |client, url| {
        let mut output = io::stdout().lock();
        client
            .follow(url, |event| writeln!(output, "{event}").and_then(|()| output.flush()).map_err(Failure::stdout))
            .await
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
        let line = "events --follow --after 7 --types result.* --assignment a";
        let options = CommandLine::parse_from(line.split_whitespace()).options;
        let query: Vec<String> = options.query().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(query.join(" "), "after=7 types=result.* assignment=a");
        let options = CommandLine::parse_from(["events", "--follow"]).options;
        assert_eq!(options.query().count(), 0);
    }
}
