//! The machine a gateway runs on, as a test wants it: a time of day that steps, and a disk whose writes fail. Only the
//! process's calls of the C library are changed (`machine.c`, by `LD_PRELOAD`); the program does not know of it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use jiff::SignedDuration;
use tempfile::TempDir;

/// Where the numbers lie in the file of control.
const AHEAD: u64 = 0;
const ERROR_NUMBER: u64 = 8;

/// Why writes to the database fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// They do not.
    Working,
    /// The disk is full.
    Full,
    /// The disk is broken.
    Broken,
}

/// The machine of one gateway, or of several.
pub struct Machine {
    control: File,
    environment: Vec<(String, String)>,
    _folder: TempDir,
}

impl Machine {
    /// A machine in order.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("control");
        std::fs::write(&path, [0; 16]).expect("the file can be written");
        let control = File::options().write(true).open(&path).expect("the file is there");
        let environment = vec![
            ("LD_PRELOAD".to_owned(), library().display().to_string()),
            ("MACHINE_CONTROL".to_owned(), path.display().to_string()),
        ];
        Self { control, environment, _folder: folder }
    }

    /// The environment variables that put a process on this machine.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Steps the time of day: from now on it is so much ahead of the true one.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        let nanoseconds = i64::try_from(ahead.as_nanos()).expect("less than three centuries");
        self.set(AHEAD, nanoseconds);
    }

    /// What becomes of writes to the database from now on.
    pub fn set_disk(&self, disk: Disk) {
        // Numbers of Linux (`errno(3)`): ENOSPC, EIO.
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

/// The library, compiled once for this run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/machine.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (compiled, library) = (folder.join(format!("machine-{}.so", std::process::id())), folder.join("machine.so"));
        let compiler = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&compiled)
            .arg(source)
            .output()
            .expect("cc is installed (scripts/test)");
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
        std::fs::rename(&compiled, &library).expect("the library can be put in its place");
        library
    })
}
