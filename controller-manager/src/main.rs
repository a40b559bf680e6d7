//! kube-controller-manager: the control loops that make the cluster as its objects say.
//!
//! `options` are the flags, `app` starts and serves, `controllers` is the table of all, `context` is what each of them
//! gets, `credentials` who they are, `common` what they share; every other file or folder is one controller. No controller calls another: they meet in the API server only.

mod app;
mod bootstrap;
mod certificates;
mod clusterrole_aggregation;
mod common;
mod context;
mod controllers;
mod credentials;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslicemirroring;
mod garbagecollector;
mod job;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod options;
mod podautoscaler;
mod podgc;
mod replicaset;
mod resourcequota;
mod root_ca;
mod serviceaccount;
mod statefulset;
mod taint_eviction;
mod ttl;
mod ttl_after_finished;
mod validatingadmissionpolicystatus;
mod volume;

use std::process::ExitCode;

use component_base::{cli, logs, runtime};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Everything here waits for the API server; more threads would only hold more memory.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let options: options::Options = cli::parse("kube-controller-manager");
    logs::init(&options.logging);
    options.logging.feature_gates.publish();
    runtime::run(THREADS, |shutdown| app::run(options, shutdown))
}
