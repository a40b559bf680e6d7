//! Who a controller is to the API server: with `--use-service-account-credentials` its own ServiceAccount, which has no
//! more rights than it needs; else the process's identity.

use std::{sync::Arc, time::Duration};

use component_base::{
    client::{self, Anonymous, ClientFlags, TokenSlot},
    version,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio_util::sync::CancellationToken;

use crate::{
    common::{Doing, Error, Result},
    options::Options,
};

const NAMESPACE: &str = "kube-system";
const LIFETIME_SECS: i64 = 3600;
/// Between attempts to get a token.
const RETRY: Duration = Duration::from_secs(2);

/// Makes the clients of controllers.
pub struct Identities {
    /// The process's own identity.
    root: Client,
    shared: Option<Arc<Anonymous>>,
    flags: ClientFlags,
    shutdown: CancellationToken,
}

impl Identities {
    pub async fn new(
        options: &Options,
        root: Client,
        shutdown: CancellationToken,
    ) -> std::result::Result<Self, client::Error> {
        let flags = options.client_flags();
        let shared = match options.client.use_service_account_credentials {
            true => Some(Arc::new(client::connect_anonymously(&flags).await?)),
            false => None,
        };
        Ok(Self { root, shared, flags, shutdown })
    }

    /// A client of its own rate limit, as ServiceAccount `account` if controllers have their own identities and it is not
    /// empty. Its requests wait for the account's first token.
    pub async fn client(&self, account: &'static str) -> std::result::Result<Client, client::Error> {
        let whose =
            if account.is_empty() { "root".into() } else { format!("system:serviceaccount:{NAMESPACE}:{account}") };
        let agent = format!("{}/{whose}", version::user_agent("kube-controller-manager"));
        match self.shared.as_ref().filter(|_| !account.is_empty()) {
            None => client::connect(&self.flags, &agent).await,
            Some(shared) => {
                let token = TokenSlot::default();
                let accounts = Api::namespaced(self.root.clone(), NAMESPACE);
                tokio::spawn(keep_fresh(accounts, account, token.clone(), self.shutdown.clone()));
                shared.client(&agent, token, self.flags.qps, self.flags.burst)
            }
        }
    }
}

/// Gets a new token when four fifths of the last one's life are over, until `shutdown`.
async fn keep_fresh(
    accounts: Api<ServiceAccount>,
    account: &'static str,
    slot: TokenSlot,
    shutdown: CancellationToken,
) {
    loop {
        let wait = match request(&accounts, account).await {
            Ok((token, life)) => {
                slot.set(&token);
                life.mul_f64(0.8)
            }
            Err(error) => {
                tracing::warn!(account, %error, "Cannot get the controller's token, will retry");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait.max(RETRY)) => {}
        }
    }
}

/// A token of the account, which is made if there is none, and how long the token lives.
async fn request(accounts: &Api<ServiceAccount>, account: &str) -> Result<(String, Duration)> {
    let spec = TokenRequestSpec { expiration_seconds: Some(LIFETIME_SECS), ..TokenRequestSpec::default() };
    let wanted = TokenRequest { spec, ..TokenRequest::default() };
    let what = || format!("request a token of ServiceAccount {NAMESPACE}/{account}");
    let params = PostParams::default();
    let mut answer = accounts.create_token_request(account, &params, &wanted).await.or_gone(what)?;
    if answer.is_none() {
        let metadata = ObjectMeta { name: Some(account.to_owned()), ..ObjectMeta::default() };
        let created = accounts.create(&params, &ServiceAccount { metadata, ..ServiceAccount::default() }).await;
        match created.doing(|| format!("create ServiceAccount {NAMESPACE}/{account}")) {
            Ok(_) => {}
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error),
        }
        answer = Some(accounts.create_token_request(account, &params, &wanted).await.doing(what)?);
    }
    let Some(status) = answer.and_then(|answer| answer.status) else {
        return Err(Error::Invalid(format!("the token of ServiceAccount {NAMESPACE}/{account} came back empty")));
    };
    let life = status.expiration_timestamp.0.duration_since(Timestamp::now());
    Ok((status.token, Duration::try_from(life).unwrap_or_default()))
}
