//! TLS bootstrap: with a token that may do little else, a new node asks for its client certificate, and writes the
//! kubeconfig that uses it. A node whose certificate has come to its end while it was away begins the same way.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use component_base::client::{ClientFlags, connect};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Manager;
use crate::kubeconfig::{self, ClientCertificate};

/// Returns when `kubeconfig` has a client certificate that can be used: as it is, or asked for with the credentials of
/// `bootstrap`. Waits for the API server and for the request's approval.
pub async fn ensure(
    bootstrap: &Path,
    kubeconfig: &Path,
    manager: &Manager,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    match usable(kubeconfig) {
        Ok(()) => return Ok(()),
        Err(_) if !kubeconfig.exists() => {}
        Err(error) => tracing::warn!(
            kubeconfig = %kubeconfig.display(), error = format!("{error:#}"), "The kubeconfig can't be used, bootstrapping again"
        ),
    }
    if manager.current().is_none() {
        let flags = ClientFlags { kubeconfig: Some(bootstrap.to_path_buf()), ..Default::default() };
        let client = connect(&flags, "kubelet").await?;
        tokio::select! {
            () = manager.bootstrap(&client) => {}
            () = shutdown.cancelled() => bail!("stopped before the node had its certificate"),
        }
    }
    let folder = bootstrap.parent().unwrap_or(Path::new(""));
    let new = kubeconfig::rewritten(&kubeconfig::read(bootstrap)?, folder, &manager.current_path())
        .with_context(|| format!("using {}", bootstrap.display()))?;
    Ok(crate::store::write(kubeconfig, serde_yaml_ng::to_string(&new)?.as_bytes())?)
}

/// Whether a kubeconfig has a client certificate that is valid now.
fn usable(kubeconfig: &Path) -> anyhow::Result<()> {
    match kubeconfig::client_certificate(kubeconfig)? {
        ClientCertificate::Data(pair) | ClientCertificate::Files(pair) => Ok(pair.facts.valid(Timestamp::now())?),
        ClientCertificate::None => bail!("it has no client certificate"),
    }
}

/// Has the manager take over the client certificate of a kubeconfig, where it has none of its own that is newer. `false` if
/// the kubeconfig's user is known by other means, which are not for the manager to change.
pub fn take_over(manager: &Manager, kubeconfig: &Path) -> bool {
    let changed =
        |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    match kubeconfig::client_certificate(kubeconfig) {
        Ok(ClientCertificate::None) => return false,
        // Somebody has written a new certificate into the kubeconfig after the manager got its own: a cluster made anew
        // on a machine that was in another one.
        Ok(ClientCertificate::Data(pair)) => {
            if manager.current().is_none() || changed(kubeconfig) > changed(&manager.current_path()) {
                manager.begin_with(pair, true);
            }
        }
        Ok(ClientCertificate::Files(pair)) => {
            if manager.current().is_none() {
                manager.begin_with(pair, false);
            }
        }
        Err(error) => tracing::warn!(
            kubeconfig = %kubeconfig.display(), error = format!("{error:#}"), "Can't use the kubeconfig's client certificate"
        ),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Template;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{KeyPair, date_time_ymd};
    use serde_json::{Value, json};

    /// A certificate until the end of a year, and its key.
    fn certified(node: &str, until: i32) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let mut params = Template::client(node).params().expect("parameters");
        params.not_after = date_time_ymd(until, 12, 31);
        [params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem()]
    }

    fn data(pair: &[String; 2]) -> Value {
        let [cert, key] = pair.each_ref().map(|text| STANDARD.encode(text));
        json!({"client-certificate-data": cert, "client-key-data": key})
    }

    fn kubeconfig(path: &Path, user: &Value) {
        let config = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": user}],
        });
        std::fs::write(path, config.to_string()).expect("written");
    }

    #[test]
    fn a_kubeconfig_whose_certificate_has_ended_is_of_no_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubelet.conf");
        assert!(usable(&path).is_err());
        for (user, expected) in [
            (data(&certified("n1", 4000)), true),
            (data(&certified("n1", 2020)), false),
            (json!({"token": "t"}), false),
            (json!({"client-certificate": "gone.pem", "client-key": "gone.pem"}), false),
        ] {
            kubeconfig(&path, &user);
            assert_eq!(usable(&path).is_ok(), expected, "{user}");
        }
    }

    #[tokio::test]
    async fn a_stored_certificate_spares_the_request_if_it_is_of_use() {
        for (stored, usable) in
            [(certified("n1", 4000), true), (certified("n1", 2020), false), (certified("n2", 4000), false)]
        {
            let folder = tempfile::tempdir().expect("a folder");
            let (from, to) = (folder.path().join("bootstrap.conf"), folder.path().join("kubelet.conf"));
            kubeconfig(&from, &json!({"token": "t"}));
            let pem = folder.path().join("kubelet-client-current.pem");
            std::fs::write(&pem, stored.concat()).expect("written");
            let manager = Manager::client(folder.path(), "n1");
            // Nobody is there to be asked, so only what is at hand can do.
            let shutdown = CancellationToken::new();
            if !usable {
                shutdown.cancel();
            }
            assert_eq!(ensure(&from, &to, &manager, &shutdown).await.is_ok(), usable);
            assert_eq!(to.exists(), usable);
            if usable {
                super::usable(&to).expect("usable");
            }
        }
    }

    #[test]
    fn the_latest_of_two_certificates_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, pem) = (folder.path().join("kubelet.conf"), folder.path().join("kubelet-client-current.pem"));
        let [old, new] = [certified("n1", 4000), certified("n1", 4001)];
        let taken = || {
            let manager = Manager::client(folder.path(), "n1");
            let mine = take_over(&manager, &path);
            (mine, manager.current().map(|pair| pair.facts.not_after.to_string()[..5].to_owned()))
        };
        let until = |year: &str| Some(format!("{year}-"));
        let age = |path: &Path, secs: u64| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
            std::fs::File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("aged");
        };
        kubeconfig(&path, &json!({"token": "t"}));
        assert_eq!(taken(), (false, None));
        kubeconfig(&path, &data(&new));
        assert_eq!(taken(), (true, until("4001")));
        std::fs::write(&pem, old.concat()).expect("written");
        age(&pem, 1000);
        assert_eq!(taken(), (true, until("4001")));
        age(&path, 900);
        assert_eq!(taken(), (true, until("4000")));
        // A later one that has ended takes no one's place.
        kubeconfig(&path, &data(&certified("n1", 2020)));
        assert_eq!(taken(), (true, until("4000")));
        kubeconfig(&path, &json!({"client-certificate": "gone.pem", "client-key": "gone.pem"}));
        assert_eq!(taken(), (true, until("4000")));
    }
}
