//! `completions`: prints a shell's completions of the command line.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, say};

/// Print the completions of the command line for a shell
#[derive(Args)]
#[command(
    after_help = "Examples:\n  examgate completions bash > /etc/bash_completion.d/examgate\n  examgate completions \
                        zsh > \"${fpath[1]}/_examgate\"\n  examgate completions fish > \
                        ~/.config/fish/completions/examgate.fish"
)]
pub(super) struct Options {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(options: &Options, mut command: clap::Command) -> Result<(), Failure> {
    // Into memory first: the generator panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "examgate", &mut script);
    say(String::from_utf8_lossy(&script).trim_end())
}
