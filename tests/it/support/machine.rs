//! The machine a gateway runs on: its wall clock can step and its disk writes can fail. Only the process's calls of the
//! C library are intercepted (`machine.c`, by `LD_PRELOAD`); the program does not notice.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use jiff::SignedDuration;
use tempfile::TempDir;

/// Offsets of the numbers in the control file.
const AHEAD: u64 = 0;
const ERROR_NUMBER: u64 = 8;

/// How writes to the database fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// They do not fail.
    Working,
    /// The disk is full.
    Full,
    /// The disk is broken.
    Broken,
}

/// The machine of one gateway or several.
pub struct Machine {
    control: File,
    environment: Vec<(String, String)>,
    _folder: TempDir,
}

impl Machine {
    /// Creates a machine without failures.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("control");
        std::fs::write(&path, [0; 16]).expect("the file can be written");
        let control = File::options().write(true).open(&path).expect("the file exists");
        let environment = vec![
            ("LD_PRELOAD".to_owned(), library().display().to_string()),
            ("MACHINE_CONTROL".to_owned(), path.display().to_string()),
        ];
        Self { control, environment, _folder: folder }
    }

    /// Returns the environment variables that put a process on this machine.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Sets how far the wall clock is ahead of the true time.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        let nanoseconds = i64::try_from(ahead.as_nanos()).expect("less than three centuries");
        self.set(AHEAD, nanoseconds);
    }

    /// Sets how writes to the database fail.
    pub fn set_disk(&self, disk: Disk) {
        // Error numbers of Linux (`errno(3)`): ENOSPC, EIO.
        let error_number = match disk {
            Disk::Working => 0,
            Disk::Full => 28,
            Disk::Broken => 5,
        };
        self.set(ERROR_NUMBER, error_number);
    }

    fn set(&self, offset: u64, number: i64) {
        self.control.write_all_at(&number.to_ne_bytes(), offset).expect("the file can be written");
    }
}

/// Compiles the library, once per run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/machine.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (compiled, library) =
            (folder.join(format!("machine-{}.so", std::process::id())), folder.join("machine.so"));
        let output = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&compiled)
            .arg(source)
            .output()
            .expect("cc is installed (scripts/test)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&compiled, &library).expect("the library can be put in its place");
        library
    })
}
