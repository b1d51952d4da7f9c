//! Logs panics by location only, since a panic message may quote request data.

use std::panic::PanicHookInfo;

use super::log_buffer;

/// Installs a panic hook that logs the location.
pub(super) fn install_hook() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let (file, line) = panic.location().map_or(("", 0), |place| (place.file(), place.line()));
    let thread = std::thread::current();
    tracing::error!(file, line, thread = thread.name(), "the program panicked");
    // The panic may end the process.
    log_buffer::flush();
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    const CHILD: &str = "EXAMGATE_TEST_PANICS";

    /// Runs in a child process: a panic hook is global, and other tests panic as well.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test finds out from the environment whether it is the child process"
    )]
    fn a_panic_is_logged_by_location_without_its_message() {
        if std::env::var(CHILD).is_ok() {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            super::install_hook();
            let panicked = std::thread::spawn(|| panic!("quotes {}", "ada@example.org")).join();
            assert!(panicked.is_err());
            return;
        }
        let name = std::thread::current().name().unwrap().to_owned();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
        assert!(child.status.success() && said.contains("the program panicked"), "{said}");
        assert!(said.contains(file!()) && !said.contains("ada@") && !said.contains("quotes"), "{said}");
    }
}
