//! The Common Expression Language as Kubernetes speaks it: the rules of custom resources, admission policies, match conditions.
//!
//! An expression goes one way: text → [`ast::Ast`] ([`parse`]) → types and overloads ([`check`]) → an upper bound of what a run
//! costs ([`cost`]) → a [`Program`], which is run any number of times, from any thread ([`eval`]). Values are read in place from
//! the objects they are about ([`value`]); the functions of the language are rows of tables ([`functions`]).
//!
//! Everything has a bound: the length and depth of an expression, what a run may cost (and with it time and memory), the number
//! of errors that are told. Nothing here does I/O, and nothing in an expression can make this crate panic.

pub mod admission;
pub mod ast;
pub mod check;
pub mod cost;
pub mod env;
pub mod error;
pub mod eval;
pub mod functions;
mod literal;
pub mod meter;
pub mod openapi;
pub mod parse;
pub mod schema;
mod time;
pub mod types;
pub mod value;

pub use env::{Env, Variable};
pub use error::Error;
pub use eval::{Activation, Outcome, Program};
pub use meter::Authorizer;
pub use types::Type;
pub use value::Value;

/// What one run of one expression may cost. (Upstream's `PerCallLimit`.)
pub const CALL_COST_MAX: u64 = 1_000_000;
/// What all rules of one object, or all expressions of one policy, may cost together.
pub const OBJECT_COST_MAX: u64 = 10_000_000;
/// What all match conditions of one webhook or policy may cost together.
pub const MATCH_CONDITIONS_COST_MAX: u64 = 2_500_000;
