//! The endpoints of the service `kubernetes`: the addresses of all API servers that run. Each server keeps a key with its
//! address under a lease; an address whose key is gone is taken out by those that are left.

use apimachinery::Value;
use apimachinery::schema::GroupVersionKind;
use handlers::api::Api;
use handlers::write::Write;
use handlers::write::update::Preconditions;
use request::User;
use request::status::Result;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an address counts after its server was last heard of.
const LEASE_SECONDS: i64 = 15;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// At the start the namespace may not be there yet.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the endpoints right until `shutdown`, then takes this server out of them.
pub async fn keep_endpoints(api: Arc<crate::server::Server>, address: IpAddr, port: u16, shutdown: CancellationToken) {
    let api = &api.api;
    if address.is_loopback() {
        tracing::warn!(%address, "no endpoints are kept for the service kubernetes: nobody else reaches this server; set --advertise-address");
        return;
    }
    loop {
        let mut again = RENEW_EVERY;
        if let Err(status) = renew(api, address, port).await {
            tracing::warn!(error = status.message, "could not renew the endpoints of the service kubernetes");
            again = RETRY;
        }
        tokio::select! { () = tokio::time::sleep(again) => {}, () = shutdown.cancelled() => break }
    }
    let key = key(api, address);
    if let Ok(Some(stored)) = api.etcd.get(&key).await {
        let _ = api.etcd.delete_if(&key, stored.revision).await; // the lease ends it anyway
    }
    let _ = publish(api, port).await;
}

fn prefix(api: &Api) -> String {
    format!("{}/masterleases/", api.etcd.prefix)
}

fn key(api: &Api, address: IpAddr) -> String {
    format!("{}{address}", prefix(api))
}

async fn renew(api: &Api, address: IpAddr, port: u16) -> Result<()> {
    let lease = api.etcd.grant(LEASE_SECONDS).await?;
    let key = key(api, address);
    let kind = GroupVersionKind::new("", "v1", "Endpoints");
    let mut object = json!({"metadata": {}, "subsets": [{"addresses": [{"ip": address.to_string()}]}]});
    let bytes = storage::codec::encode(api.media, &kind, &mut object);
    let there = api.etcd.get(&key).await?.map_or(0, |s| s.revision);
    api.etcd.put_if(&key, there, bytes, lease).await?;
    publish(api, port).await
}

/// Writes Endpoints and EndpointSlice with the addresses of all servers.
async fn publish(api: &Api, port: u16) -> Result<()> {
    let prefix = prefix(api);
    let page = api.etcd.page(&prefix, prefix.as_bytes(), 100, 0).await?;
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    addresses.extend(
        page.items.iter().filter_map(|i| std::str::from_utf8(&i.key).ok()?[prefix.len()..].parse::<IpAddr>().ok()),
    );
    let ips: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let subsets = if ips.is_empty() {
        Value::Null
    } else {
        let list: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!([{"addresses": list, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}])
    };
    let meta =
        |label: (&str, &str)| json!({"name": "kubernetes", "namespace": "default", "labels": {label.0: label.1}});
    let endpoints = json!({"metadata": meta(("endpointslice.kubernetes.io/skip-mirror", "true")), "subsets": subsets});
    write(api, "", "endpoints", "subsets", endpoints).await?;
    let family = if addresses.iter().next().is_some_and(IpAddr::is_ipv6) { "IPv6" } else { "IPv4" };
    let slice = json!({
        "metadata": meta(("kubernetes.io/service-name", "kubernetes")),
        "addressType": family,
        "endpoints": ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    write(api, "discovery.k8s.io", "endpointslices", "endpoints", slice).await
}

async fn write(api: &Api, group: &str, plural: &str, member: &str, object: Value) -> Result<()> {
    let endpoint = api.builtin(group, "v1", plural)?;
    let user = User::apiserver();
    let mut write = Write::internal(api, &endpoint, &user, "default", "kubernetes");
    let wanted = object.clone();
    let mut set = |current: &Value| {
        let mut changed = current.clone();
        changed[member] = wanted[member].clone();
        Ok(changed)
    };
    match write.update(&Preconditions::default(), &mut Vec::new(), &mut set).await {
        Err(status) if status.reason == "NotFound" => {
            let row = &endpoint.row;
            let object = handlers::decode::finish(object, Vec::new(), &row.kind, &row.form, Default::default())?.object;
            write.create(object, Vec::new()).await.map(|_| ())
        }
        result => result.map(|_| ()),
    }
}
