//! Objects as bytes.
