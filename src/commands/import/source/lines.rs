//! Lines as an editor counts them: from one, whatever their line endings.

/// A count of lines.
#[derive(Clone, Copy)]
pub(in crate::commands::import) struct Lines {
    /// The number of the current line.
    pub(in crate::commands::import) number: u64,
    after_return: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { number: 1, after_return: false }
    }
}

impl Lines {
    /// Counts the line breaks in these bytes of UTF-8.
    pub(in crate::commands::import) fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.number += u64::from(*byte == b'\r' || (*byte == b'\n' && !self.after_return));
            self.after_return = *byte == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_ending_counts_once() {
        for (text, number) in [("", 1), ("a\nb", 2), ("a\r\nb\r\n", 3), ("a\rb\r", 3), ("\n\n\r\n", 4)] {
            let mut lines = Lines::default();
            text.as_bytes().iter().for_each(|byte| lines.pass(&[*byte]));
            assert_eq!(lines.number, number, "{text:?}");
        }
    }
}
