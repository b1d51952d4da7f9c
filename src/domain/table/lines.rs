//! Counts lines as an editor does: LF, CR and CRLF each end one line, wherever they are, also within quoted cells.

/// A counter of lines.
#[derive(Debug, Clone)]
pub struct LineCounter {
    number: u64,
    after_return: bool,
}

impl Default for LineCounter {
    fn default() -> Self {
        Self { number: 1, after_return: false }
    }
}

impl LineCounter {
    /// Returns the number of the line that the next byte belongs to; the first is 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Counts the lines that end in these bytes.
    pub fn pass(&mut self, bytes: &[u8]) {
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
        for (text, number) in
            [("", 1), ("a", 1), ("a\n", 2), ("a\r\nb\r\n", 3), ("a\rb", 2), ("\n\r\n\r\r\n", 5), ("\n\n", 3)]
        {
            let mut lines = LineCounter::default();
            lines.pass(text.as_bytes());
            assert_eq!(lines.number(), number, "{text:?}");
            let mut crumbled = LineCounter::default();
            text.bytes().for_each(|byte| crumbled.pass(&[byte]));
            assert_eq!(crumbled.number(), number, "{text:?}");
        }
    }
}
