//! NetworkPolicy by nftables. What lives here: from policies, namespaces and pods to sets and chains. Routes never come in.
//!
//! | file | what |
//! |---|---|
//! | [`model`] | what of a Pod matters, and which pods a selector means |
//! | [`compile`] | the pure function from a policy to the rules of its chains and the sets they need |
//! | [`tracker`] | which policies and sets this node needs, kept up to date change by change |
//! | [`ruleset`] | chains, sets and maps, and the script that leads from what was applied to what is wanted |
//! | [`controller`] | follows the API and applies what changed |

mod compile;
mod controller;
mod model;
#[cfg(test)]
mod packets;
mod ruleset;
mod tracker;

pub use controller::Controller;
