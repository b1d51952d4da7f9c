//! A body as something to read from, fed piece by piece as it arrives.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};

/// What some programs put before a text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The pieces, one at hand. It never fails: whether the body was whole is for whoever feeds it to say.
pub(super) struct ChunkReader<N> {
    next: N,
    piece: Bytes,
}

impl<N: FnMut() -> Option<Bytes>> ChunkReader<N> {
    /// Of the pieces this gives until there are no more.
    pub(super) fn new(next: N) -> Self {
        Self { next, piece: Bytes::new() }
    }

    /// Leaves a byte order mark at the beginning out.
    pub(super) fn without_mark(mut self) -> Self {
        while self.piece.len() < MARK.len() && MARK.starts_with(&self.piece) {
            let Some(more) = (self.next)() else { break };
            self.piece = if self.piece.is_empty() { more } else { [&self.piece[..], &more[..]].concat().into() };
        }
        if self.piece.starts_with(MARK) {
            self.piece.advance(MARK.len());
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

    /// The bytes in pieces that end at these places.
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

    /// The bytes, each a piece of its own.
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
    fn pieces_make_up_the_whole() {
        for places in [&[][..], &[0], &[3], &[1, 1, 2], &[5, 6, 7]] {
            assert_eq!(read(cut(b"abcdefg", places)), b"abcdefg");
        }
    }

    #[test]
    fn one_mark_at_the_beginning_is_left_out() {
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
