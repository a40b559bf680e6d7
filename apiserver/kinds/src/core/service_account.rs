//! ServiceAccounts.

use registry::printing::{AGE, NAME, created, name};
use registry::strategy::{Strategy, Table};

pub const STRATEGY: Strategy = Strategy {
    return_deleted: true,
    table: Some(Table { columns: &[NAME, AGE], cells: |account, now| vec![name(account), created(account, now)] }),
    ..Strategy::GENERIC
};
