//! What a run may spend, and whom it may ask.

use crate::error::Error;
use crate::value::{Decision, ResourceCheck};

/// Who answers checks of access in an expression.
pub trait Authorizer {
    /// `service_account`, as namespace and name, is asked for instead of the user of the request.
    fn check_path(&self, path: &str, verb: &str, service_account: Option<&(String, String)>) -> Decision;
    fn check_resource(&self, check: &ResourceCheck, verb: &str) -> Decision;
}

/// What functions see of a run: the budget, and who answers checks of access.
pub struct Meter<'r> {
    pub spent: u64,
    max: u64,
    pub authorizer: Option<&'r dyn Authorizer>,
}

impl<'r> Meter<'r> {
    pub(crate) fn new(max: u64, authorizer: Option<&'r dyn Authorizer>) -> Meter<'r> {
        Meter { spent: 0, max, authorizer }
    }

    /// Pays before the work is done.
    pub fn pay(&mut self, cost: u64) -> Result<(), Error> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.max { Err(Error::OverBudget) } else { Ok(()) }
    }
}

/// What looking at so many bytes or values costs.
pub fn scan(size: u64) -> u64 {
    size.div_ceil(10)
}
