//! Kinds of the group `batch`: pods that run to an end.

pub mod cron_job;
pub mod job;
mod job_policy;
mod schedule;
