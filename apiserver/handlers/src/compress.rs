//! Large answers go out compressed to clients that take gzip. (Upstream's threshold and level: what saves bandwidth at little
//! cost.) Watches never do: their events must not wait in a compressor.

use super::Response;
use super::response::respond;
use bytes::{Buf, Bytes};
use component_base::serving;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::stream;
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};
use std::convert::Infallible;
use std::io::{Read, Write};

/// Smaller answers are sent as they are.
pub const THRESHOLD: usize = 128 * 1024;
const LEVEL: u32 = 1;
/// Bytes that go into the compressor at once.
const PIECE: usize = 128 * 1024;

/// Whether a client takes gzip.
pub fn accepts(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// A body that is known whole.
pub fn full(code: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut rest = body;
    let pieces = std::iter::from_fn(move || match rest.len() {
        0 => None,
        length => Some(rest.split_to(length.min(PIECE))),
    });
    gzip(code, content_type, pieces)
}

/// A body of pieces, compressed as they come.
pub fn gzip(
    code: StatusCode,
    content_type: &'static str,
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response {
    marked(code, content_type, serving::stream(stream::iter(Compressed::new(pieces).map(Ok::<Bytes, Infallible>))))
}

/// A body that is kept in gzip, as it is.
pub fn packed(code: StatusCode, content_type: &'static str, packed: Bytes) -> Response {
    marked(code, content_type, serving::full(packed))
}

/// A body that is kept in gzip, inflated on its way to a client that takes no gzip.
pub fn unpacked(code: StatusCode, content_type: &'static str, packed: Bytes) -> Response {
    let mut reader = GzDecoder::new(packed.reader());
    let pieces = std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE);
        match reader.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some(Ok(Bytes::from(piece))),
            Err(e) => Some(Err(e)),
        }
    });
    let mut response = respond(code, content_type, serving::stream(stream::iter(pieces)));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn marked(code: StatusCode, content_type: &'static str, body: serving::Body) -> Response {
    let mut response = respond(code, content_type, body);
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Pieces on their way through the compressor; none when it has ended.
struct Compressed<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Bytes>> Compressed<I> {
    fn new(pieces: I) -> Self {
        Compressed { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::new(LEVEL))) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Compressed<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let encoder = self.encoder.as_mut()?;
            match self.pieces.next() {
                Some(piece) => {
                    let _ = encoder.write_all(&piece); // into memory, which does not fail
                    let out = std::mem::take(encoder.get_mut());
                    if !out.is_empty() {
                        return Some(out.into());
                    }
                }
                None => return Some(self.encoder.take()?.finish().unwrap_or_default().into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_goes_in_comes_out() {
        let pieces: Vec<Bytes> = (0..40u32).map(|n| n.to_string().repeat(5000).into()).collect();
        let whole = pieces.concat();
        let packed: Vec<Bytes> = Compressed::new(pieces.into_iter()).collect();
        let packed = packed.concat();
        assert!(packed.len() < whole.len() / 10);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut back).unwrap();
        assert_eq!(back, whole);
    }

    #[test]
    fn clients_say_what_they_take() {
        for (header, taken) in
            [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false), ("", false)]
        {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, header.parse().unwrap())]);
            assert_eq!(accepts(&headers), taken, "{header}");
        }
    }
}
