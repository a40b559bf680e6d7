//! The envelope around protobuf objects, in etcd and on the wire: four magic bytes and a `runtime.Unknown` message that says
//! what is inside.

use super::wire::{Reader, WireError, put_bytes, put_head, put_message};

/// First bytes of every protobuf object.
pub const MAGIC: &[u8] = b"k8s\0";

/// What the envelope says, and what it holds.
#[derive(Debug, Default, PartialEq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The object's message.
    pub raw: &'a [u8],
    pub content_type: &'a str,
}

/// Opens an envelope; `None` where the bytes do not start with [`MAGIC`].
pub fn open(bytes: &[u8]) -> Option<Result<Envelope<'_>, WireError>> {
    Some(unknown(bytes.strip_prefix(MAGIC)?))
}

/// Reads a `runtime.Unknown`.
pub fn unknown(bytes: &[u8]) -> Result<Envelope<'_>, WireError> {
    let mut envelope = Envelope::default();
    let mut reader = Reader(bytes);
    while let Some((number, raw)) = reader.field()? {
        match number {
            1 => {
                let mut meta = Reader(raw.bytes(1)?);
                while let Some((n, raw)) = meta.field()? {
                    match n {
                        1 => envelope.api_version = raw.text(1)?,
                        2 => envelope.kind = raw.text(2)?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = raw.bytes(2)?,
            4 => envelope.content_type = raw.text(4)?,
            _ => {}
        }
    }
    Ok(envelope)
}

/// Writes an envelope around the message that `body` writes.
pub fn seal(api_version: &str, kind: &str, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = start(api_version, kind);
    put_message(&mut out, 2, body);
    end(&mut out);
    out
}

/// What stands before and behind a message of `length` bytes in its envelope.
pub fn around(api_version: &str, kind: &str, length: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut head, mut tail) = (start(api_version, kind), Vec::new());
    put_head(&mut head, 2, length);
    end(&mut tail);
    (head, tail)
}

fn start(api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(MAGIC);
    put_message(&mut out, 1, |meta| {
        put_bytes(meta, 1, api_version.as_bytes());
        put_bytes(meta, 2, kind.as_bytes());
    });
    out
}

/// Neither an encoding nor a content type: protobuf.
fn end(out: &mut Vec<u8>) {
    put_bytes(out, 3, b"");
    put_bytes(out, 4, b"");
}
