//! garbage-collector-controller: deletes what has lost all its owners, and carries out foreground and orphan deletions.
//!
//! [`monitors`] watches the metadata of every kind the API server serves, [`graph`] knows who owns whom, [`worker`] acts.
//! It never decides from the graph alone to delete: the object, and an owner the graph does not show, are read from the
//! API server first.

mod graph;
mod monitors;
mod worker;

use std::{collections::HashMap, sync::Arc, time::Duration};

use component_base::{controller, queue::WorkQueue};
use kube::Client;
use parking_lot::{Mutex, RwLock};

use self::graph::{Effects, Graph, Uid};
use crate::{
    common::discovery::{self, Served},
    context::Context,
};

/// How often the API server is asked for new kinds.
const RESYNC: Duration = Duration::from_secs(30);
/// A kind that cannot be listed must not keep all others waiting for longer.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// What monitors and workers share.
struct Shared {
    client: Client,
    /// For watches, which are not limited in rate.
    reader: Client,
    graph: Mutex<Graph>,
    /// By group and kind.
    kinds: RwLock<HashMap<(String, String), Served>>,
    delete: WorkQueue<Uid>,
    orphan: WorkQueue<Uid>,
}

impl Shared {
    fn enqueue(&self, effects: Effects) {
        effects.delete.into_iter().for_each(|uid| self.delete.add(uid));
        effects.orphan.into_iter().for_each(|uid| self.orphan.add(uid));
    }

    fn kind(&self, group: &str, kind: &str) -> Option<Served> {
        self.kinds.read().get(&(group.to_owned(), kind.to_owned())).cloned()
    }
}

pub async fn run(context: Context) {
    if !context.options.enable_garbage_collector {
        return;
    }
    let shared = Arc::new(Shared {
        client: context.client.clone(),
        reader: context.factory.client().clone(),
        graph: Mutex::default(),
        kinds: RwLock::default(),
        delete: WorkQueue::new("garbage_collector_attempt_to_delete"),
        orphan: WorkQueue::new("garbage_collector_attempt_to_orphan"),
    });
    let mut monitors = monitors::Monitors::new(shared.clone(), context.shutdown.clone());
    let mut ticks = tokio::time::interval(RESYNC);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Foreground deletion ends when no dependent is left: that must not be said of a graph that is not complete.
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if resync(&shared, &mut monitors).await {
            break;
        }
    }
    let synced = tokio::time::timeout(SYNC_TIMEOUT, monitors.synced());
    tokio::select! {
        () = context.shutdown.cancelled() => return,
        result = synced => if result.is_err() {
            tracing::warn!("Not every kind could be listed, collecting garbage among the others");
        }
    }
    tracing::info!(objects = shared.graph.lock().len(), "Garbage collector: all resource monitors have synced");

    let workers = context.options.workers.concurrent_gc_syncs;
    let delete = controller::run(context.name, shared.delete.clone(), workers, context.shutdown.clone(), |uid| {
        let shared = shared.clone();
        async move { worker::attempt_to_delete(&shared, uid).await }
    });
    let orphan = controller::run(context.name, shared.orphan.clone(), workers, context.shutdown.clone(), |uid| {
        let shared = shared.clone();
        async move { worker::attempt_to_orphan(&shared, uid).await }
    });
    let follow = async {
        loop {
            tokio::select! {
                () = context.shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            resync(&shared, &mut monitors).await;
        }
    };
    tokio::join!(delete, orphan, follow);
}

/// Watches what is served now; false if that could not be found out.
async fn resync(shared: &Shared, monitors: &mut monitors::Monitors) -> bool {
    match discovery::served(&shared.client).await {
        Ok(served) if !served.is_empty() => {
            monitors.follow(served);
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::warn!(%error, "Cannot find out which kinds there are, keeping the ones known");
            false
        }
    }
}
