//! Putting the server together from its flags, and taking it down again.

use crate::allocation::ServiceAllocator;
use crate::bootstrap::{self, Cluster};
use crate::options::{EtcdFlags, Options};
use crate::server::health::HealthLimits;
use crate::server::inflight::Inflight;
use crate::server::{Server, pipeline};
use admission::default_toleration_seconds::DefaultTolerationSeconds;
use aggregation::Aggregator;
use anyhow::Context;
use authentication::Authenticators;
use authentication::front_proxy::FrontProxy;
use authentication::service_account::Issuer;
use authentication::token_file::TokenFile;
use authentication::x509::X509;
use authorization::always::{AlwaysAllow, AlwaysDeny};
use authorization::node::NodeAuthorizer;
use authorization::rbac::Rbac;
use component_base::serving;
use component_base::tls::{self, CaBundle, CertifiedFiles, ServerTls, Watched};
use handlers::api::authorization::{Authorizer, Authorizers};
use handlers::api::{Api, Settings};
use handlers::negotiate::serve_cbor;
use http::HeaderValue;
use kinds::rows;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storage::codec::{Media, MediaType};
use storage::compactor;
use storage::dispatcher::Dispatcher;
use storage::etcd::{Etcd, EtcdOptions};
use streaming::{Backends, KubeletClient, client_config, read_identity};
use tokio_util::sync::CancellationToken;
use webhook::client::Identity;

/// Connections at once: a watch or two of every node of a large cluster. Idle ones cost about 20 kB each.
const CONNECTIONS_MAX: usize = 65_536;

pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    options.check()?;
    let etcd = connect(&options.etcd).await?;
    let gates = &options.logging.feature_gates;
    let cbor = gates.enabled("CBORServingAndStorage");
    serve_cbor(cbor);
    let builtin = match options.etcd.storage_media_type.as_str() {
        "" | "application/json" => MediaType::Json,
        "application/cbor" => MediaType::Cbor,
        _ => MediaType::Protobuf,
    };
    let media = Media { builtin, custom: if cbor { MediaType::Cbor } else { MediaType::Json } };
    let rows = rows::served(|row| is_on(row, &options.runtime_config.0), gates);
    let allocator = ServiceAllocator::new(
        options.service.service_cluster_ip_range.clone(),
        &options.service.service_node_port_range,
    )?;
    let configured =
        options.admission_control_config_file.as_deref().map(admission::configuration::read).transpose()?;
    let configured = configured.unwrap_or_default();
    let api = Arc::new(Api::new(
        etcd.clone(),
        media,
        rows,
        Settings {
            admission: admission::chain(
                &options.enable_admission_plugins,
                &options.disable_admission_plugins,
                &configured,
                gates,
                DefaultTolerationSeconds {
                    not_ready: options.default_not_ready_toleration_seconds,
                    unreachable: options.default_unreachable_toleration_seconds,
                },
            )?,
            allocators: vec![Box::new(allocator)],
            event_ttl_seconds: options.event_ttl.0.as_secs() as i64,
            gates: gates.clone(),
            aggregator_routing: options.enable_aggregator_routing,
            front_proxy_identity: front_proxy_identity(&options)?,
            port: options.serving.secure_port,
            collects_garbage: options.enable_garbage_collector,
        },
    ));
    api.progress.history.set_bytes_max(options.etcd.watch_history_bytes_max);
    // Work of the server itself goes on while requests are drained.
    let background = CancellationToken::new();
    let _stop = background.clone().drop_guard();
    tokio::spawn(keep_dispatching(api.dispatcher.clone(), background.clone()));
    tokio::spawn(api.freshness.clone().run());
    if !options.etcd.etcd_compaction_interval.0.is_zero() {
        let interval = options.etcd.etcd_compaction_interval.0;
        tokio::spawn(compactor::run(etcd, api.progress.clone(), interval, background.clone()));
    }

    let advertised =
        options.serving.advertise_address.unwrap_or_else(|| reachable_address(options.serving.bind_address));
    let draining = CancellationToken::new();
    let server = Arc::new(assemble(&options, api, advertised, shutdown.clone(), draining.clone())?);
    crate::server::metrics::count_objects(server.clone());
    let cluster = cluster(&options)?;
    tokio::spawn(custom_resources::run(server.api.clone(), background.clone()));
    tokio::spawn(aggregation::availability::run(server.aggregator.clone(), background.clone()));
    tokio::spawn(put_in_place(server.clone(), cluster, background.clone()));

    tokio::spawn(bootstrap::keep_flow_schemas(server.clone(), background.clone()));

    let listener = serving::bind(SocketAddr::new(options.serving.bind_address, options.serving.secure_port)).await?;
    let tls = server_tls(&options, advertised)?;
    tracing::info!(address = %listener.local_addr()?, "Serving securely");
    let endpoints = (options.endpoint_reconciler_type != "none").then(|| {
        tokio::spawn(bootstrap::keep_endpoints(
            server.clone(),
            advertised,
            options.serving.secure_port,
            shutdown.clone(),
        ))
    });

    let handler = {
        let server = server.clone();
        serving::handler(move |request| pipeline::serve(server.clone(), request))
    };
    // Load balancers are given time to notice before connections are told to go.
    let delay = options.shutdown_delay_duration.0;
    tokio::spawn({
        let (shutdown, draining) = (shutdown.clone(), draining.clone());
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(delay).await;
            draining.cancel();
        }
    });
    let limits =
        serving::Limits { connections_max: CONNECTIONS_MAX, drain: options.request_timeout.0, ..Default::default() };
    serving::serve_https_within(limits, listener, tls, handler, draining).await;
    if let Some(endpoints) = endpoints {
        let _ = tokio::time::timeout(Duration::from_secs(2), endpoints).await;
    }
    Ok(())
}

/// The certificate that aggregated API servers know this server by.
fn front_proxy_identity(options: &Options) -> anyhow::Result<Option<Watched<Identity>>> {
    let (Some(cert), Some(key)) = (&options.proxy_client_cert_file, &options.proxy_client_key_file) else {
        return Ok(None);
    };
    let (cert, key) = (cert.clone(), key.clone());
    let read = {
        let (cert, key) = (cert.clone(), key.clone());
        move || read_identity(&cert, &key).map_err(|e| tls::Error::Key { path: key.clone(), reason: format!("{e:#}") })
    };
    Ok(Some(Watched::new(vec![cert, key], read)?))
}

/// Runs the dispatcher until `shutdown`. Should it panic, which is a bug, everything is loaded again: a server whose caches stand
/// still is worse than one that is slow for a moment.
async fn keep_dispatching(dispatcher: Arc<Dispatcher>, shutdown: CancellationToken) {
    while let Err(error) = tokio::spawn(dispatcher.clone().run(shutdown.clone())).await {
        tracing::error!(%error, "the watch on etcd failed by a bug; loading everything again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Connects to etcd, waiting for it: a kubelet starts both at once.
async fn connect(flags: &EtcdFlags) -> anyhow::Result<Etcd> {
    let read = |path: &std::path::PathBuf| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    let tls = if flags.etcd_servers.iter().any(|s| s.starts_with("https")) {
        let mut tls = etcd_client::TlsOptions::new();
        if let Some(ca) = &flags.etcd_cafile {
            tls = tls.ca_certificate(etcd_client::Certificate::from_pem(read(ca)?));
        }
        if let (Some(cert), Some(key)) = (&flags.etcd_certfile, &flags.etcd_keyfile) {
            tls = tls.identity(etcd_client::Identity::from_pem(read(cert)?, read(key)?));
        }
        Some(tls)
    } else {
        None
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let options =
            EtcdOptions { servers: flags.etcd_servers.clone(), prefix: flags.etcd_prefix.clone(), tls: tls.clone() };
        let attempt = async {
            let etcd = Etcd::connect(options).await?;
            etcd.current_revision().await.map(|_| etcd)
        };
        match tokio::time::timeout(Duration::from_secs(5), attempt).await {
            Ok(Ok(etcd)) => return Ok(etcd),
            result if tokio::time::Instant::now() > deadline => {
                let why = match result {
                    Ok(Err(e)) => e.to_string(),
                    _ => "no answer".into(),
                };
                anyhow::bail!("no etcd at {} after a minute: {why}", flags.etcd_servers.join(", "));
            }
            Ok(Err(e)) => tracing::info!(error = %e, "waiting for etcd"),
            Err(_) => tracing::info!("waiting for etcd"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// `--runtime-config` for one row: the most specific key that speaks of it decides.
fn is_on(row: &registry::resource::Resource, config: &std::collections::BTreeMap<String, String>) -> bool {
    let level = if row.kind.version.contains("alpha") {
        "api/alpha"
    } else if row.kind.version.contains("beta") {
        "api/beta"
    } else {
        "api/ga"
    };
    let version = row.kind.api_version();
    let keys = [format!("{version}/{}", row.plural), version, level.to_owned(), "api/all".to_owned()];
    keys.iter().find_map(|key| config.get(key)).map_or(row.on, |value| value != "false" && value != "0")
}

fn assemble(
    options: &Options,
    api: Arc<Api>,
    advertised: IpAddr,
    closing: CancellationToken,
    draining: CancellationToken,
) -> anyhow::Result<Server> {
    let rbac = if options.authz.authorization_mode.iter().any(|m| m == "RBAC") {
        Some(Arc::new(Rbac::new(&api).map_err(|s| anyhow::anyhow!(s.message))?))
    } else {
        None
    };
    let mut chain: Vec<Arc<dyn Authorizer>> = Vec::new();
    for mode in &options.authz.authorization_mode {
        chain.push(match (mode.as_str(), &rbac) {
            ("AlwaysAllow", _) => Arc::new(AlwaysAllow),
            ("AlwaysDeny", _) => Arc::new(AlwaysDeny),
            ("RBAC", Some(rbac)) => rbac.clone(),
            ("Node", _) => Arc::new(NodeAuthorizer::new(&api).map_err(|s| anyhow::anyhow!(s.message))?),
            (other, _) => anyhow::bail!("--authorization-mode {other} is not supported yet; use Node and RBAC"),
        });
    }
    let authz = Arc::new(Authorizers { chain });
    let _ = api.authz.set(authz.clone()); // it is set nowhere else
    Ok(Server {
        authn: authenticators(options)?,
        authz: authz.clone(),
        rbac,
        aggregator: Arc::new(Aggregator::new(api.clone())),
        backends: Backends {
            api: api.clone(),
            authorizers: authz.clone(),
            kubelet: KubeletClient::new(&options.kubelet)?,
            any_tls: Arc::new(client_config(None, None)?),
        },
        inflight: Inflight::new(options.max_requests_inflight, options.max_mutating_requests_inflight),
        request_timeout: options.request_timeout.0,
        address: SocketAddr::new(advertised, options.serving.secure_port).to_string(),
        bootstrapped: AtomicBool::new(false),
        health: HealthLimits {
            etcd: options.etcd.etcd_healthcheck_timeout.0,
            etcd_readiness: options.etcd.etcd_readycheck_timeout.0,
            live_from: Instant::now() + options.livez_grace_period.0,
        },
        transport_security: transport_security(&options.serving.strict_transport_security_directives)?,
        closing,
        draining,
        api,
    })
}

/// `Strict-Transport-Security`, where it is asked for.
fn transport_security(directives: &[String]) -> anyhow::Result<Option<HeaderValue>> {
    let text = directives.join("; ");
    Ok((!text.is_empty()).then(|| HeaderValue::from_str(&text)).transpose()?)
}

fn authenticators(options: &Options) -> anyhow::Result<Authenticators> {
    let flags = &options.authn;
    let front_proxy = match &flags.requestheader_client_ca_file {
        Some(ca) => Some(FrontProxy {
            ca: CaBundle::from_file(ca)?,
            allowed_names: flags.requestheader_allowed_names.clone(),
            username_headers: flags.requestheader_username_headers.clone(),
            uid_headers: flags.requestheader_uid_headers.clone(),
            group_headers: flags.requestheader_group_headers.clone(),
            extra_prefixes: flags.requestheader_extra_headers_prefix.clone(),
        }),
        None => None,
    };
    let service_account = if flags.service_account_issuer.is_empty() {
        None
    } else {
        let mut issuer = Issuer::new(
            flags.service_account_issuer.clone(),
            flags.api_audiences.clone(),
            &flags.service_account_key_file,
            flags.service_account_signing_key_file.as_deref(),
        )?;
        let max = flags.service_account_max_token_expiration.0.as_secs() as i64;
        issuer.max_expiration_seconds = (max > 0).then_some(max);
        Some(Arc::new(issuer))
    };
    Ok(Authenticators {
        front_proxy,
        x509: flags.client_ca_file.as_ref().map(CaBundle::from_file).transpose()?.map(|ca| X509 { ca }),
        token_file: flags.token_auth_file.as_deref().map(TokenFile::read).transpose()?,
        service_account,
        bootstrap_tokens: flags.enable_bootstrap_token_auth,
        anonymous: options.allows_anonymous(),
    })
}

fn cluster(options: &Options) -> anyhow::Result<Cluster> {
    let mut authentication = Vec::new();
    let mut file = |key: &str, path: &Option<std::path::PathBuf>| -> anyhow::Result<bool> {
        let Some(path) = path else { return Ok(false) };
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        authentication.push((key.to_owned(), text));
        Ok(true)
    };
    file("client-ca-file", &options.authn.client_ca_file)?;
    if file("requestheader-client-ca-file", &options.authn.requestheader_client_ca_file)? {
        let flags = &options.authn;
        let list = |items: &Vec<String>| serde_json::to_string(items).unwrap_or_default();
        authentication.push(("requestheader-allowed-names".into(), list(&flags.requestheader_allowed_names)));
        authentication
            .push(("requestheader-extra-headers-prefix".into(), list(&flags.requestheader_extra_headers_prefix)));
        authentication.push(("requestheader-group-headers".into(), list(&flags.requestheader_group_headers)));
        authentication.push(("requestheader-uid-headers".into(), list(&flags.requestheader_uid_headers)));
        authentication.push(("requestheader-username-headers".into(), list(&flags.requestheader_username_headers)));
    }
    Ok(Cluster {
        service_ranges: options.service.service_cluster_ip_range.clone(),
        secure_port: options.serving.secure_port,
        node_port: options.service.kubernetes_service_node_port,
        authentication,
    })
}

/// Bootstraps until it succeeds (without it nobody but masters may do anything), then keeps telling that this server runs.
async fn put_in_place(server: Arc<Server>, cluster: Cluster, shutdown: CancellationToken) {
    let identity = bootstrap::Identity::of_this_host();
    let mut backoff = Duration::from_millis(100);
    while !shutdown.is_cancelled() {
        let attempt = async {
            server.api.ready_for(None).await?;
            bootstrap::run(&server.api, &cluster).await?;
            identity.renew(&server.api).await
        };
        match attempt.await {
            Ok(()) => {
                server.bootstrapped.store(true, Ordering::Release);
                tracing::info!("the objects that every cluster has are in place");
                return identity.keep(server, shutdown).await;
            }
            Err(status) => tracing::warn!(error = status.message, "bootstrap failed; trying again"),
        }
        tokio::select! { () = tokio::time::sleep(backoff) => {}, () = shutdown.cancelled() => {} }
        backoff = (backoff * 2).min(Duration::from_secs(5));
    }
}

fn server_tls(options: &Options, advertised: IpAddr) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let serving = &options.serving;
    let cert = match (&serving.tls_cert_file, &serving.tls_private_key_file) {
        (Some(cert), Some(key)) => tls::from_files(CertifiedFiles { cert: cert.clone(), key: key.clone() })?,
        _ => {
            let names = ["kubernetes.default.svc", "kubernetes.default", "kubernetes", "localhost"].map(str::to_owned);
            let service = options.service.service_cluster_ip_range.first().and_then(|range| range.hosts().next());
            let addresses = [Some(advertised), service, Some(IpAddr::from([127, 0, 0, 1]))];
            let addresses = addresses.into_iter().flatten().map(|address| address.to_string());
            let names: Vec<String> = addresses.take(1).chain(names).collect();
            if serving.cert_dir.as_os_str().is_empty() {
                tls::self_signed(&names)?
            } else {
                tls::self_signed_in(&serving.cert_dir, "apiserver", &names)?
            }
        }
    };
    let mut config = ServerTls::new(cert);
    if serving.disable_http2_serving {
        config.alpn.retain(|protocol| protocol != b"h2");
    }
    if serving.tls_min_version == "VersionTLS13" {
        const ONLY_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        config.versions = ONLY_13;
    }
    if let Some(ca) = &options.authn.client_ca_file {
        config.client_ca_hints = CaBundle::from_file(ca)?.hints();
    }
    Ok(tls::server_config(config)?)
}

/// The address to tell others, where none is given: the one that is listened on or, if that is all of them or one that nobody else
/// reaches, the one by which this machine reaches others. Loopback where there is no route.
fn reachable_address(bind: IpAddr) -> IpAddr {
    if !bind.is_unspecified() && !bind.is_loopback() {
        return bind;
    }
    // Addresses of documentation (RFC 5737, RFC 3849). Connecting a UDP socket sends nothing; it only picks the source address of
    // the route. IPv4 first, as upstream prefers it.
    let probes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let source = |(any, other): (&str, &str)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(other).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    probes.into_iter().find_map(source).unwrap_or(IpAddr::from([127, 0, 0, 1]))
}
