//! One metadata watch per kind, feeding the graph.

use std::{collections::HashMap, pin::pin, sync::Arc};

use component_base::{informer, runtime::AbortOnDrop};
use futures::StreamExt;
use kube::{
    Api,
    runtime::watcher::{self, Event},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shared, graph::Uid};
use crate::common::discovery::{Partial, Served};

/// Group and resource that own nothing and are owned by nothing, and change all the time.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

struct Monitor {
    source: u32,
    synced: watch::Receiver<bool>,
    _task: AbortOnDrop,
}

/// The running watches, by group and resource.
pub(super) struct Monitors {
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    running: HashMap<(String, String), Monitor>,
    next_source: u32,
}

impl Monitors {
    pub fn new(shared: Arc<Shared>, shutdown: CancellationToken) -> Self {
        Self { shared, shutdown, running: HashMap::new(), next_source: 0 }
    }

    /// Starts watches of kinds that are new and ends those of kinds that are gone.
    pub fn follow(&mut self, served: Vec<Served>) {
        let watchable = |kind: &Served| {
            let name = (kind.resource.group.as_str(), kind.resource.plural.as_str());
            ["list", "watch", "delete"].iter().all(|verb| kind.can(verb)) && !IGNORED.contains(&name)
        };
        let served: HashMap<(String, String), Served> = served
            .into_iter()
            .filter(watchable)
            .map(|kind| ((kind.resource.group.clone(), kind.resource.plural.clone()), kind))
            .collect();
        *self.shared.kinds.write() = served
            .values()
            .map(|kind| ((kind.resource.group.clone(), kind.resource.kind.clone()), kind.clone()))
            .collect();

        let gone: Vec<_> = self.running.keys().filter(|name| !served.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(monitor) = self.running.remove(&name) {
                tracing::info!(group = name.0, resource = name.1, "No longer served, forgetting its objects");
                let effects = self.shared.graph.lock().sweep(monitor.source, u32::MAX);
                self.shared.enqueue(effects);
            }
        }
        for (name, kind) in served {
            if self.running.contains_key(&name) {
                continue;
            }
            let source = self.next_source;
            self.next_source += 1;
            let (sender, synced) = watch::channel(false);
            let work = monitor(self.shared.clone(), kind, source, sender, self.shutdown.clone());
            self.running.insert(name, Monitor { source, synced, _task: AbortOnDrop(tokio::spawn(work)) });
        }
    }

    /// Waits until every kind was listed.
    pub async fn synced(&mut self) {
        for monitor in self.running.values_mut() {
            // An error means that the task has ended: with the process.
            let _ = monitor.synced.wait_for(|synced| *synced).await;
        }
    }
}

async fn monitor(
    shared: Arc<Shared>,
    kind: Served,
    source: u32,
    synced: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let (group, name) = {
        let mut graph = shared.graph.lock();
        (graph.intern(&kind.resource.group), graph.intern(&kind.resource.kind))
    };
    let api: Api<Partial> = kind.metadata(&shared.reader, "");
    let mut events = pin!(informer::events(api, watcher::Config::default()));
    let mut epoch = 0;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        let effects = match event {
            Some(Ok(Event::Init)) => {
                epoch += 1;
                continue;
            }
            Some(Ok(Event::InitApply(object) | Event::Apply(object))) => {
                shared.graph.lock().observe(source, epoch, &group, &name, &object.metadata)
            }
            Some(Ok(Event::Delete(object))) => {
                let uid = object.metadata.uid.as_deref().map(Uid::parse);
                uid.map(|uid| shared.graph.lock().remove(uid)).unwrap_or_default()
            }
            Some(Ok(Event::InitDone)) => {
                let effects = shared.graph.lock().sweep(source, epoch);
                synced.send_replace(true);
                effects
            }
            Some(Err(error)) => {
                tracing::debug!(kind = %name, %error, "Failed to watch metadata, will retry");
                continue;
            }
            None => return,
        };
        shared.enqueue(effects);
    }
}
