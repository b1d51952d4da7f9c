//! The console as a browser without a script sees it.

mod import;
