//! What a panic says: its place. Its message may quote what a request said, so nobody is told that.

use std::panic::PanicHookInfo;

/// Has panics logged from now on, by their place.
pub(super) fn log_places() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let (file, line) = panic.location().map_or(("", 0), |place| (place.file(), place.line()));
    let thread = std::thread::current();
    tracing::error!(file, line, thread = thread.name(), "the program panicked");
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    const CHILD: &str = "EXAMGATE_TEST_PANICS";

    /// In a process of its own: a hook is for the whole process, and other tests panic as well.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test tells itself by the environment which process it is")]
    fn a_panic_tells_its_place_and_not_its_message() {
        if std::env::var(CHILD).is_ok() {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            super::log_places();
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
