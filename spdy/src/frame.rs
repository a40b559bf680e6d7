//! Frames: eight bytes of head, then what belongs to them.

use crate::headers::{self, Headers, Inflater};
use crate::{CONTROL_BYTES_MAX, DATA_BYTES_MAX, Error, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What peers say to each other. Clients' streams have odd numbers, servers' even ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `SYN_STREAM`
    Open { stream: u32, fin: bool, headers: Headers },
    /// `SYN_REPLY`
    Reply { stream: u32, fin: bool, headers: Headers },
    /// `HEADERS`: more of them on a stream that is open
    Headers { stream: u32, fin: bool, headers: Headers },
    /// Data, or a piece of it; `fin` says that the sender has no more.
    Data { stream: u32, fin: bool, bytes: Bytes },
    /// `RST_STREAM`: the stream is gone, in both directions. `status` is of [`crate::reset`].
    Reset { stream: u32, status: u32 },
    /// To be sent back as it is by whoever did not make up the number; clients make up odd ones.
    Ping(u32),
    /// `GOAWAY`: no more streams are accepted.
    GoAway { last: u32 },
    /// Of a type that does not matter here: `SETTINGS`, `WINDOW_UPDATE` and the like.
    Other(u16),
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

const HEAD_BYTES: usize = 8;
const CONTROL: u32 = 1 << 31;
const VERSION: u16 = 3;
const FIN: u8 = 1;

/// Makes frames of bytes.
pub struct Decoder {
    /// What was fed and is not decoded yet.
    pub buffer: BytesMut,
    inflater: Inflater,
    /// The frame of data whose content comes next, and how many bytes of it there still are.
    data: Option<(u32, bool, usize)>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { buffer: BytesMut::new(), inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// The next frame, or None where it takes more bytes. Data comes in pieces as it is there, of [`DATA_BYTES_MAX`] at most.
    pub fn decode(&mut self) -> Result<Option<Frame>> {
        if self.data.is_none() {
            let Some(mut head) = self.buffer.get(..HEAD_BYTES) else { return Ok(None) };
            let (word, rest) = (head.get_u32(), head.get_u32());
            let (flags, length) = ((rest >> 24) as u8, (rest & 0xff_ffff) as usize);
            if word & CONTROL != 0 {
                return self.control(word, flags, length);
            }
            if word == 0 {
                return Err(Error::NoStream);
            }
            self.buffer.advance(HEAD_BYTES);
            self.data = Some((word, flags & FIN != 0, length));
        }
        let Some((stream, fin, left)) = self.data else { return Ok(None) };
        let piece = left.min(self.buffer.len()).min(DATA_BYTES_MAX);
        if piece == 0 && left > 0 {
            return Ok(None);
        }
        let left = left - piece;
        self.data = (left > 0).then_some((stream, fin, left));
        Ok(Some(Frame::Data { stream, fin: fin && left == 0, bytes: self.buffer.split_to(piece).freeze() }))
    }

    /// Whether bytes may end here.
    pub fn is_between_frames(&self) -> bool {
        self.data.is_none() && self.buffer.is_empty()
    }

    fn control(&mut self, word: u32, flags: u8, length: usize) -> Result<Option<Frame>> {
        let (version, kind) = ((word >> 16) as u16 & 0x7fff, word as u16);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        if length > CONTROL_BYTES_MAX {
            return Err(Error::TooLong(length));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let mut content = self.buffer.split_to(length).freeze();
        let fin = flags & FIN != 0;
        let short = |_| Error::TooShort(kind);
        let stream = |content: &mut Bytes| Ok::<_, Error>(content.try_get_u32().map_err(short)? & !CONTROL);
        Ok(Some(match kind {
            SYN_STREAM => {
                let stream = stream(&mut content)?;
                // The stream it belongs to, priority and slot.
                if content.len() < 6 {
                    return Err(Error::TooShort(kind));
                }
                content.advance(6);
                Frame::Open { stream, fin, headers: self.inflater.block(&content)? }
            }
            SYN_REPLY => Frame::Reply { stream: stream(&mut content)?, fin, headers: self.inflater.block(&content)? },
            HEADERS => Frame::Headers { stream: stream(&mut content)?, fin, headers: self.inflater.block(&content)? },
            RST_STREAM => Frame::Reset { stream: stream(&mut content)?, status: content.try_get_u32().map_err(short)? },
            PING => Frame::Ping(content.try_get_u32().map_err(short)?),
            GOAWAY => Frame::GoAway { last: stream(&mut content)? },
            other => Frame::Other(other),
        }))
    }
}

/// Makes bytes of frames.
#[derive(Default)]
pub struct Encoder {
    headers_were_sent: bool,
}

impl Encoder {
    /// Appends a frame; data of more than [`DATA_BYTES_MAX`] as several. [`Frame::Other`] has no content to send.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        match frame {
            Frame::Data { stream, fin, bytes } => {
                let mut rest = &bytes[..];
                loop {
                    let (piece, after) = rest.split_at(rest.len().min(DATA_BYTES_MAX));
                    let flags = if *fin && after.is_empty() { FIN } else { 0 };
                    out.put_u32(stream & !CONTROL);
                    out.put_u32(u32::from(flags) << 24 | piece.len() as u32);
                    out.extend_from_slice(piece);
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            Frame::Open { stream, fin, headers } => {
                let before = [*stream, 0].map(u32::to_be_bytes).concat();
                self.headers(SYN_STREAM, *fin, &[before, vec![0, 0]].concat(), headers, out);
            }
            Frame::Reply { stream, fin, headers } => {
                self.headers(SYN_REPLY, *fin, &stream.to_be_bytes(), headers, out);
            }
            Frame::Headers { stream, fin, headers } => {
                self.headers(HEADERS, *fin, &stream.to_be_bytes(), headers, out);
            }
            Frame::Reset { stream, status } => numbers(RST_STREAM, &[*stream, *status], out),
            Frame::Ping(number) => numbers(PING, &[*number], out),
            Frame::GoAway { last } => numbers(GOAWAY, &[*last, 0], out),
            Frame::Other(_) => {}
        }
    }

    fn headers(&mut self, kind: u16, fin: bool, before: &[u8], headers: &Headers, out: &mut BytesMut) {
        let mut block = BytesMut::new();
        headers::write(headers, !self.headers_were_sent, &mut block);
        self.headers_were_sent = true;
        head(kind, fin, before.len() + block.len(), out);
        out.extend_from_slice(before);
        out.extend_from_slice(&block);
    }
}

fn numbers(kind: u16, numbers: &[u32], out: &mut BytesMut) {
    head(kind, false, 4 * numbers.len(), out);
    numbers.iter().for_each(|number| out.put_u32(*number));
}

fn head(kind: u16, fin: bool, length: usize, out: &mut BytesMut) {
    out.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
    out.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | length as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.decode().unwrap()).collect()
    }

    #[test]
    fn frames_are_read_back_however_they_are_cut() {
        let headers = Headers::from([("streamtype", "stdin")]);
        let frames = [
            Frame::Open { stream: 1, fin: false, headers: headers.clone() },
            Frame::Reply { stream: 1, fin: true, headers: Headers::default() },
            Frame::Headers { stream: 1, fin: false, headers },
            Frame::Data { stream: 1, fin: false, bytes: Bytes::from_static(b"x") },
            Frame::Data { stream: 1, fin: true, bytes: Bytes::new() },
            Frame::Reset { stream: 3, status: crate::reset::CANCEL },
            Frame::Ping(1),
            Frame::GoAway { last: 3 },
        ];
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        frames.iter().for_each(|frame| encoder.encode(frame, &mut bytes));
        for piece in [1, 3, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for part in bytes.chunks(piece) {
                decoder.buffer.extend_from_slice(part);
                got.extend(decode(&mut decoder));
            }
            assert_eq!((&got[..], decoder.is_between_frames()), (&frames[..], true));
        }
    }

    #[test]
    fn large_data_goes_in_pieces_and_ends_once() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let bytes = Bytes::from(vec![7; 2 * DATA_BYTES_MAX + 1]);
        encoder.encode(&Frame::Data { stream: 1, fin: true, bytes: bytes.clone() }, &mut decoder.buffer);
        let mut whole = Vec::new();
        let ends: Vec<bool> = decode(&mut decoder)
            .into_iter()
            .map(|frame| match frame {
                Frame::Data { stream: 1, fin, bytes } => {
                    whole.extend_from_slice(&bytes);
                    fin
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((ends, whole), (vec![false, false, true], bytes.to_vec()));
        // One frame of more than a piece, its end not there yet.
        decoder.buffer.put_u32(1);
        decoder.buffer.put_u32(1 << 24 | 10);
        assert_eq!((decoder.decode().unwrap(), decoder.is_between_frames()), (None, false));
        decoder.buffer.put_bytes(0, 4);
        assert!(matches!(decoder.decode().unwrap(), Some(Frame::Data { fin: false, bytes, .. }) if bytes.len() == 4));
        decoder.buffer.put_bytes(0, 6);
        assert!(matches!(decoder.decode().unwrap(), Some(Frame::Data { fin: true, bytes, .. }) if bytes.len() == 6));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let error = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.buffer.extend_from_slice(bytes);
            decoder.decode().unwrap_err().to_string()
        };
        for (bytes, why) in [
            (&[0x80, 2, 0, 1, 0, 0, 0, 0][..], "a control frame of SPDY version 2; only 3 is known"),
            (&[0x80, 3, 0, 1, 0, 0xff, 0, 0], "a control frame of 16711680 bytes; at most 65536 are taken"),
            (&[0x80, 3, 0, 6, 0, 0, 0, 1, 0], "a frame of type 6 is too short"),
            (&[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1], "a frame of type 1 is too short"),
            (&[0, 0, 0, 0, 0, 0, 0, 0], "data for stream 0"),
        ] {
            assert_eq!(error(bytes), why, "{bytes:?}");
        }
    }

    #[test]
    fn frames_that_do_not_matter_are_told_as_such() {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0]);
        assert_eq!(decode(&mut decoder), [Frame::Other(9)]);
    }
}
