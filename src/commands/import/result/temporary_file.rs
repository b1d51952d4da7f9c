//! Files that take their place at once or not at all.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use crate::commands::process::new_private_file;
use crate::domain::system::System;

/// A temporary file beside its target; removed on drop unless renamed to it.
pub(super) struct TemporaryFile(Option<PathBuf>);

impl TemporaryFile {
    /// Creates an empty file that only its owner may read, beside this path.
    pub(super) fn beside(path: &Path, environment: &System) -> io::Result<(Self, File)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_string_lossy().into_owned();
        let path = path.with_file_name(format!(".{name}.{}.tmp", HEXLOWER.encode(&environment.random::<8>())));
        let file = new_private_file(&path)?;
        Ok((Self(Some(path)), file))
    }

    /// Moves the file to its target.
    pub(super) fn become_file(&mut self, path: &Path) -> io::Result<()> {
        if let Some(own) = &self.0 {
            std::fs::rename(own, path)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // A leftover temporary file is harmless; there is no way to recover here.
            drop(std::fs::remove_file(path));
        }
    }
}

/// Returns the first free name of `people.result.1.csv`, `people.result.2.csv`, … for `people.result.csv`.
pub(super) fn free_name(path: &Path) -> io::Result<PathBuf> {
    let numbered = |number: usize| match path.extension() {
        Some(extension) => path.with_extension(format!("{number}.{}", extension.to_string_lossy())),
        None => path.with_extension(number.to_string()),
    };
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
    (1..10_000).map(numbered).find(is_free).ok_or_else(|| ErrorKind::AlreadyExists.into())
}
