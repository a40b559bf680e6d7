//! The real kubelet on a real containerd: no API server, no CNI. Tests are skipped where the machine lacks something.

mod admission;
mod containers;
mod node;
mod probes;
mod sandbox;
mod spdy;
mod static_pods;
mod stats;
