//! Inputs to begin with: small files in a folder of the target's name.

use crate::corpus_folder;
use std::io;

/// Divides an input into parts, such as a document and a patch.
pub const SEPARATOR: &[u8] = b"\n---\n";

/// Parts that a target may count on; those that an input lacks are empty.
const PARTS: usize = 4;

pub struct Corpus {
    pub files: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads the folder of that name; the order is that of the files' names, so that a seed means the same everywhere.
    pub fn of(name: &str) -> io::Result<Corpus> {
        let mut paths: Vec<_> =
            std::fs::read_dir(corpus_folder().join(name))?.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        let files = paths.iter().map(std::fs::read).collect::<io::Result<Vec<_>>>()?;
        if files.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(Corpus { files }) }
    }
}

/// The parts of an input.
pub fn parts(input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    while parts.len() < PARTS {
        parts.push(&[]);
    }
    parts
}
