//! The uploaded file on its way from page to page: in a hidden field of the form, so that the server keeps nothing.

use std::io::{self, Read as _};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use flate2::Compression;
use flate2::read::{DeflateDecoder, DeflateEncoder};

/// Maximum size of a file in bytes.
pub(super) const MAX_FILE: usize = 5 << 20;

/// Packs a file as text.
///
/// # Errors
/// Compression failed.
pub(super) fn pack(file: &[u8]) -> io::Result<String> {
    let mut packed = Vec::new();
    DeflateEncoder::new(file, Compression::default()).read_to_end(&mut packed)?;
    Ok(BASE64URL_NOPAD.encode(&packed))
}

/// Unpacks a file; `None` if the text is no packed file or the file is too large. Never inflates more than that.
pub(super) fn unpack(text: &str) -> Option<Bytes> {
    let packed = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let mut file = Vec::new();
    let most = u64::try_from(MAX_FILE).ok()? + 1;
    DeflateDecoder::new(packed.as_slice()).take(most).read_to_end(&mut file).ok()?;
    (file.len() <= MAX_FILE).then(|| Bytes::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_arrives_as_it_was() {
        let file: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
        assert_eq!(unpack(&pack(&file).unwrap()).unwrap(), file);
    }

    #[test]
    fn other_texts_and_bombs_are_refused() {
        assert_eq!(unpack("not base64!"), None);
        assert_eq!(unpack("AAAA"), None);
        assert!(unpack(&pack(&vec![0; MAX_FILE]).unwrap()).is_some());
        assert_eq!(unpack(&pack(&vec![0; MAX_FILE + 1]).unwrap()), None);
    }
}
