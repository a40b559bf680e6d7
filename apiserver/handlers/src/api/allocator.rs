//! What must be set aside before an object is stored, and given back when it is not or goes away: addresses and ports of
//! services.

use crate::api::Api;
use apimachinery::Value;
use futures::future::BoxFuture;
use registry::resource::Resource;
use request::status::Result;

/// Something set aside; [`Allocator::release`] takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// What it is to its allocator: an address, a port.
    pub what: String,
}

/// Sets things aside for the objects of one resource.
pub trait Allocator: Send + Sync {
    fn concerns(&self, row: &Resource) -> bool;

    /// Fills `object` in and returns what was newly set aside for it.
    fn allocate<'a>(
        &'a self,
        api: &'a Api,
        object: &'a mut Value,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Vec<Allocation>>>;

    /// What `old` held and `new` (none: the object is gone) does not.
    fn released(&self, old: &Value, new: Option<&Value>) -> Vec<Allocation>;

    /// Gives back; failures are logged and left to the repair of the allocator.
    fn release<'a>(&'a self, api: &'a Api, allocations: Vec<Allocation>) -> BoxFuture<'a, ()>;
}

impl Api {
    pub fn allocator(&self, row: &Resource) -> Option<&dyn Allocator> {
        self.allocators.iter().map(|a| &**a).find(|a| a.concerns(row))
    }
}
