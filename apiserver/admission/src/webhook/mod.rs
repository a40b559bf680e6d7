//! What the two plugins that ask admission webhooks have in common.
//!
//! | file | what |
//! |---|---|
//! | [`hook`] | one webhook of a configuration, read |
//! | [`source`] | all webhooks there are, read from the cache once per change |
//! | [`matching`] | whether a webhook is to be asked about a request, and in which version |
//! | [`review`] | the AdmissionReview that is sent, and what its answer means |
//! | [`ask`] | one question to one webhook, with what comes of it counted |
//! | [`reinvocation`] | which mutating webhooks are asked a second time |
//!
//! Configurations of webhooks and policies themselves are never put to a webhook: one that fails could not be mended.

pub mod ask;
pub mod hook;
pub mod matching;
pub mod metrics;
pub mod review;
pub mod source;
