//! `man`: prints or writes the manual pages.

use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man;

use super::{Failure, say};

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Args)]
#[command(after_help = "Examples:\n  examgate man | man -l -\n  examgate man --dir /usr/local/share/man/man1    \
                        (examgate.1, examgate-serve.1, ...)")]
pub(super) struct Options {
    /// Write examgate.1 and one page for each command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(options: &Options, command: clap::Command) -> Result<(), Failure> {
    let Some(dir) = &options.dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(|error| Failure::other("the manual page", error))?;
        return say(String::from_utf8_lossy(&page).trim_end());
    };
    if !dir.is_dir() {
        return Err(Failure::Usage(vec![format!("--dir {}: is not a directory; create it first", dir.display())]));
    }
    clap_mangen::generate_to(command, dir).map_err(|error| Failure::other(&format!("--dir {}", dir.display()), error))
}
