//! Blocks of headers: names and values, compressed with one zlib stream per connection and direction.

use crate::{CONTROL_BYTES_MAX, Error, HEADERS_MAX, Result};
use bytes::{Buf, BufMut, BytesMut};
use std::sync::LazyLock;
use zlib_rs::{Inflate, InflateError, InflateFlush};

/// Names (lower case on the wire) and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of a header, whatever the case of its name. Several values stand in one, divided by NUL.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Headers {
        Headers(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// What both ends have seen before the first block: these words, each behind its length, then [`TAIL`].
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200|OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
    Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
    Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-\
    8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::new();
    for word in WORDS.split_ascii_whitespace() {
        dictionary.put_u32(word.len() as u32);
        dictionary.extend(word.bytes().map(|byte| if byte == b'|' { b' ' } else { byte }));
    }
    dictionary.extend(TAIL.bytes());
    dictionary
});

/// Reads blocks of one direction.
pub(crate) struct Inflater(Inflate);

impl Inflater {
    pub fn new() -> Inflater {
        Inflater(Inflate::new(true, 15))
    }

    /// A whole block.
    pub fn block(&mut self, compressed: &[u8]) -> Result<Headers> {
        read(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (input, output) = (self.0.total_in(), self.0.total_out());
            match self.0.decompress(compressed, &mut piece, InflateFlush::SyncFlush) {
                Ok(_) => {}
                Err(InflateError::NeedDict { .. }) => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| Error::Compression)?;
                }
                Err(_) => return Err(Error::Compression),
            }
            let (taken, made) = ((self.0.total_in() - input) as usize, (self.0.total_out() - output) as usize);
            compressed = compressed.get(taken..).unwrap_or_default();
            plain.extend_from_slice(&piece[..made]);
            if plain.len() > CONTROL_BYTES_MAX {
                return Err(Error::Headers);
            }
            if made < piece.len() && compressed.is_empty() {
                return Ok(plain);
            }
            if taken == 0 && made == 0 {
                return Err(Error::Compression); // a stream that ended, and something behind it
            }
        }
    }
}

fn read(mut block: &[u8]) -> Result<Headers> {
    let number = |block: &mut &[u8]| block.try_get_u32().map_err(|_| Error::Headers);
    let count = number(&mut block)? as usize;
    if count > HEADERS_MAX {
        return Err(Error::Headers);
    }
    let mut headers = Headers::default();
    for _ in 0..count {
        let mut text = || {
            let length = number(&mut block)? as usize;
            let (text, rest) = block.split_at_checked(length).ok_or(Error::Headers)?;
            block = rest;
            Ok::<_, Error>(String::from_utf8_lossy(text).into_owned())
        };
        headers.0.push((text()?, text()?));
    }
    Ok(headers)
}

/// Appends a block. It is not made smaller: "stored" is a form of compression too, which every zlib reads, and the few headers
/// of a stream are not worth the quarter of a megabyte that a compressor holds. `first` begins the zlib stream.
pub(crate) fn write(headers: &Headers, first: bool, out: &mut BytesMut) {
    let mut plain = BytesMut::new();
    plain.put_u32(headers.0.len() as u32);
    for (name, value) in &headers.0 {
        for text in [&name.to_ascii_lowercase(), value] {
            plain.put_u32(text.len() as u32);
            plain.extend_from_slice(text.as_bytes());
        }
    }
    if first {
        out.put_u16(0x7801); // deflate with a window of 32 KiB, no dictionary (RFC 1950 §2.2)
    }
    // The last one is empty: this is where readers know that they have it all (as after Z_SYNC_FLUSH).
    for stored in plain.chunks(usize::from(u16::MAX)).chain([&[][..]]) {
        let length = stored.len() as u16;
        out.put_u8(0); // not the last block, stored (RFC 1951 §3.2.4)
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.extend_from_slice(stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zlib_rs::{Deflate, DeflateFlush};

    fn headers() -> Headers {
        [("streamType", "error"), ("port", "8080"), ("empty", "")].into()
    }

    fn lower() -> Headers {
        [("streamtype", "error"), ("port", "8080"), ("empty", "")].into()
    }

    #[test]
    fn the_dictionary_is_that_of_spdy_3() {
        let sum = DICTIONARY.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (a + b) % 65521)
        });
        // What streams of SPDY/3 name as their dictionary (adler-32).
        assert_eq!((DICTIONARY.len(), sum.1 << 16 | sum.0), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_are_read_back() {
        let mut inflater = Inflater::new();
        for number in 0..3 {
            let mut block = BytesMut::new();
            write(&headers(), number == 0, &mut block);
            assert_eq!(inflater.block(&block).unwrap(), lower());
        }
        assert_eq!(headers().get("Streamtype"), Some("error"));
    }

    #[test]
    fn blocks_of_a_compressor_are_read() {
        let (mut deflate, mut inflater) = (Deflate::new(9, true, 15), Inflater::new());
        deflate.set_dictionary(&DICTIONARY).unwrap();
        for _ in 0..3 {
            let mut stored = BytesMut::new();
            write(&headers(), false, &mut stored);
            let plain = &stored[5..stored.len() - 5];
            let (mut compressed, before) = (vec![0; 4096], deflate.total_out());
            deflate.compress(plain, &mut compressed, DeflateFlush::SyncFlush).unwrap();
            compressed.truncate((deflate.total_out() - before) as usize);
            assert_eq!(inflater.block(&compressed).unwrap(), lower());
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let block = |plain: &[u8]| {
            let mut block = vec![0x78, 0x01, 0];
            block.extend((plain.len() as u16).to_le_bytes());
            block.extend((!(plain.len() as u16)).to_le_bytes());
            block.extend(plain);
            Inflater::new().block(&block)
        };
        assert_eq!(block(&[0, 0, 0, 0]).unwrap(), Headers::default());
        let too_many = [(HEADERS_MAX as u32 + 1).to_be_bytes().to_vec(), vec![0; 8 * 200]].concat();
        for plain in [&[][..], &[0, 0], &[0, 0, 0, 1], &[0, 0, 0, 1, 0, 0, 0, 9, b'x'], &too_many] {
            assert!(matches!(block(plain), Err(Error::Headers)), "{plain:?}");
        }
        assert!(matches!(Inflater::new().block(b"not zlib"), Err(Error::Compression)));
        // A bomb: a few bytes that become many.
        let mut deflate = Deflate::new(9, true, 15);
        let mut bomb = vec![0; 65536];
        deflate.compress(&vec![0; 1 << 20], &mut bomb, DeflateFlush::SyncFlush).unwrap();
        bomb.truncate(deflate.total_out() as usize);
        assert!(bomb.len() < 4096 && matches!(Inflater::new().block(&bomb), Err(Error::Headers)));
    }
}
