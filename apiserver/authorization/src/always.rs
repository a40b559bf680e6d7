//! `AlwaysAllow` and `AlwaysDeny`.

use handlers::api::authorization::{Attributes, Authorizer, Decision};

pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn decide(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow(String::new())
    }
}

pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn decide(&self, _: &Attributes<'_>) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".into())
    }
}
