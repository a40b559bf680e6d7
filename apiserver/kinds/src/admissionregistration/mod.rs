//! Kinds of the group `admissionregistration.k8s.io`. Whether an expression in them makes sense is asked where it is compiled.

pub mod policy;
pub mod policy_binding;
mod rules;
mod url;
pub mod webhook;
