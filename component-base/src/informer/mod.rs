//! Shared informers: one watch and one store per kind and process, however many read it.
//!
//! ```no_run
//! use component_base::informer::{Change, Factory, ObjectKey, Scope};
//! use k8s_openapi::api::core::v1::Pod;
//! # async fn demo(client: kube::Client, shutdown: tokio_util::sync::CancellationToken) {
//! let factory = Factory::new(client, shutdown);
//! let pods = factory.store::<Pod>(Scope::all());
//! pods.add_index("node", |pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
//! pods.on_change(|change| println!("{}", change.key()));
//! factory.synced().await;
//! let on_node = pods.by_index("node", "n1");
//! let pod = pods.get(&ObjectKey::namespaced("default", "web"));
//! # }
//! ```
//!
//! Objects are `Arc<K>` without managedFields. A store is filled by list and watch with resume and bookmarks; what it
//! holds lags behind the server, never ahead. Nothing in here writes.

mod factory;
mod key;
mod lenient;
mod store;

pub use factory::{Factory, Kind, Scope, events, fill};
pub use key::ObjectKey;
pub use store::{Change, Store, Subscription};
