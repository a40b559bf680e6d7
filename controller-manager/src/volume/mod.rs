//! Controllers of volumes: protection of what is in use, and the binding of claims to volumes.
//!
//! Attaching, expanding and provisioning are done by CSI's own controllers, not in here.

pub mod binder;
pub mod ephemeral;
pub mod protection;
