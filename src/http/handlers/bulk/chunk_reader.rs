//! A body as a blocking reader, fed chunk by chunk as it arrives.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};

use crate::http::extract::body::BYTE_ORDER_MARK;

/// A reader over chunks; holds one at a time. It never fails: the code that feeds it knows whether the body was complete.
pub(super) struct ChunkReader<N> {
    next: N,
    piece: Bytes,
}

impl<N: FnMut() -> Option<Bytes>> ChunkReader<N> {
    /// Creates a reader over the chunks that `next` returns until it returns none.
    pub(super) fn new(next: N) -> Self {
        Self { next, piece: Bytes::new() }
    }

    /// Skips a byte order mark at the beginning, which some programs put before UTF-8 text.
    pub(super) fn without_mark(mut self) -> Self {
        while self.piece.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.piece) {
            let Some(more) = (self.next)() else { break };
            self.piece = if self.piece.is_empty() { more } else { [&self.piece[..], &more[..]].concat().into() };
        }
        if self.piece.starts_with(BYTE_ORDER_MARK) {
            self.piece.advance(BYTE_ORDER_MARK.len());
        }
        self
    }
}

impl<N: FnMut() -> Option<Bytes>> BufRead for ChunkReader<N> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match (self.next)() {
                Some(piece) => self.piece = piece,
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece.advance(amount);
    }
}

impl<N: FnMut() -> Option<Bytes>> Read for ChunkReader<N> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Cuts the bytes into chunks that end at these positions.
    pub(in crate::http::handlers::bulk) fn cut(
        bytes: &[u8],
        places: &[usize],
    ) -> ChunkReader<impl FnMut() -> Option<Bytes> + use<>> {
        let mut places: Vec<usize> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
        places.sort_unstable();
        places.push(bytes.len());
        let mut from = 0;
        let pieces: Vec<Bytes> =
            places.into_iter().map(|to| Bytes::copy_from_slice(&bytes[std::mem::replace(&mut from, to)..to])).collect();
        let mut pieces = pieces.into_iter();
        ChunkReader::new(move || pieces.next())
    }

    /// Cuts the bytes into chunks of one byte each.
    pub(in crate::http::handlers::bulk) fn crumbled(
        bytes: &[u8],
    ) -> ChunkReader<impl FnMut() -> Option<Bytes> + use<>> {
        cut(bytes, &(0..bytes.len()).collect::<Vec<_>>())
    }

    fn read(mut pieces: ChunkReader<impl FnMut() -> Option<Bytes>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        pieces.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn chunks_make_up_the_whole() {
        for places in [&[][..], &[0], &[3], &[1, 1, 2], &[5, 6, 7]] {
            assert_eq!(read(cut(b"abcdefg", places)), b"abcdefg");
        }
    }

    #[test]
    fn one_leading_byte_order_mark_is_skipped() {
        for (bytes, rest) in [
            (&b"\xef\xbb\xbfa"[..], &b"a"[..]),
            (b"\xef\xbb\xbf", b""),
            (b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb\xbf"),
            (b"\xef\xbba", b"\xef\xbba"),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"a\xef\xbb\xbf", b"a\xef\xbb\xbf"),
            (b"", b""),
        ] {
            assert_eq!(read(crumbled(bytes).without_mark()), rest, "{bytes:?}");
            assert_eq!(read(cut(bytes, &[]).without_mark()), rest, "{bytes:?}");
        }
    }
}
