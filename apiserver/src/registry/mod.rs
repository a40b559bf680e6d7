//! Every kind the server knows: a row in `resources.txt`, and for what is special to it a file `<group>/<kind>.rs`.
//!
//! No handler is written per kind: a kind's file holds data and pure functions, never I/O.

pub mod conversion;
pub mod core;
pub mod edit;
pub mod kinds;
pub mod printing;
pub mod strategy;
pub mod table;
