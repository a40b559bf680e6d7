//! What the server knows of a resource, as data: its names, verbs and schema ([`resource`]), what is special to its kind
//! ([`strategy`]), how its versions convert ([`conversion`]), how it is printed ([`printing`], [`columns`]), which of its fields wait
//! behind gates ([`gated_fields`]), the status of definitions ([`definition`]) and the rules that they state in expressions ([`expressions`]).
//!
//! The kinds themselves are in the crates that build on this one; no handler and no request is known here.

pub mod columns;
pub mod conversion;
pub mod definition;
pub mod edit;
pub mod expressions;
pub mod gated_fields;
pub mod metrics;
pub mod printing;
pub mod resource;
pub mod strategy;
