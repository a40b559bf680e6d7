//! Bootstrap tokens: what a new node shows to be let in, and what tells it that the cluster is the right one. Each is a Secret in
//! kube-system. (kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens)

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::fmt;
use std::io::Read;
use std::str::FromStr;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 16;
/// The group that kubeadm's rules for joining are bound to.
pub const DEFAULT_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// `abcdef.0123456789abcdef`: the part before the dot is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub secret: String,
}

impl FromStr for Token {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Token> {
        let fits = |part: &str, chars: usize| {
            part.len() == chars && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let (id, secret) = text.split_once('.').unwrap_or_default();
        // The text itself is not repeated: it may be a secret with a slip in it.
        anyhow::ensure!(
            fits(id, ID_CHARS) && fits(secret, SECRET_CHARS),
            "a token must look like abcdef.0123456789abcdef: {ID_CHARS} and {SECRET_CHARS} lower-case letters or digits"
        );
        Ok(Token { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl Token {
    /// A new token from the kernel's random numbers.
    pub fn random() -> anyhow::Result<Token> {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut source = std::fs::File::open("/dev/urandom").context("opening /dev/urandom")?;
        let mut text = String::with_capacity(ID_CHARS + SECRET_CHARS);
        let mut byte = [0];
        while text.len() < ID_CHARS + SECRET_CHARS {
            source.read_exact(&mut byte).context("reading /dev/urandom")?;
            // 252 is the largest multiple of 36 in a byte: beyond it some letters would come more often than others.
            if byte[0] < 252 {
                text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        let secret = text.split_off(ID_CHARS);
        Ok(Token { id: text, secret })
    }

    fn secret_name(id: &str) -> String {
        format!("bootstrap-token-{id}")
    }
}

/// `kubeadm token` has the same.
#[derive(clap::Subcommand)]
pub enum TokenCommand {
    /// Makes a token and prints it.
    Create {
        /// abcdef.0123456789abcdef; a random one if not given.
        token: Option<String>,
        /// How long it is good for, such as 30m or 24h; 0 for ever.
        #[arg(long, default_value = "24h")]
        ttl: String,
        /// What it is for, to be read by people.
        #[arg(long)]
        description: Option<String>,
        /// Groups of those who show it; each starts with system:bootstrappers:.
        #[arg(long, value_delimiter = ',', default_value = DEFAULT_GROUP)]
        groups: Vec<String>,
        /// What it is good for.
        #[arg(long, value_delimiter = ',', default_values = ["signing", "authentication"], value_parser = ["signing", "authentication"])]
        usages: Vec<String>,
        /// Print the command that a new node runs, with the token in it.
        #[arg(long)]
        print_join_command: bool,
    },
    /// Lists the tokens.
    List,
    /// Deletes tokens, by their first part or whole.
    Delete {
        #[arg(required = true)]
        tokens: Vec<String>,
    },
    /// Prints a random token and changes nothing.
    Generate,
}

pub async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Generate => println!("{}", Token::random()?),
        TokenCommand::Create { token, ttl, description, groups, usages, print_join_command } => {
            let token = token.map_or_else(Token::random, |text| text.parse())?;
            let ttl: SignedDuration = ttl.parse().with_context(|| format!("--ttl {ttl:?} is no time such as 24h"))?;
            let spec =
                Spec { token: &token, ttl, description: description.as_deref(), groups: &groups, usages: &usages };
            create(&crate::cluster::client().await?, &spec).await?;
            match print_join_command {
                true => println!("{}", join_command(&token)?),
                false => println!("{token}"),
            }
        }
        TokenCommand::List => list(&crate::cluster::client().await?).await?,
        TokenCommand::Delete { tokens } => {
            let client = crate::cluster::client().await?;
            for text in tokens {
                let id = text.split('.').next().unwrap_or_default();
                delete(&client, id).await?;
                println!("bootstrap token {id:?} deleted");
            }
        }
    }
    Ok(())
}

/// What a new token is to be.
pub struct Spec<'a> {
    pub token: &'a Token,
    /// Zero: it does not expire.
    pub ttl: SignedDuration,
    pub description: Option<&'a str>,
    pub groups: &'a [String],
    /// `signing`, `authentication`.
    pub usages: &'a [String],
}

/// Makes the token's Secret, or brings it up to date.
pub async fn create(client: &Client, spec: &Spec<'_>) -> anyhow::Result<()> {
    let mut data = json!({
        "token-id": spec.token.id,
        "token-secret": spec.token.secret,
        "auth-extra-groups": spec.groups.join(","),
    });
    for usage in spec.usages {
        data[format!("usage-bootstrap-{usage}")] = "true".into();
    }
    if let Some(description) = spec.description {
        data["description"] = description.into();
    }
    if !spec.ttl.is_zero() {
        let end = Timestamp::now() + spec.ttl;
        data["expiration"] = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    }
    let name = Token::secret_name(&spec.token.id);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": TYPE,
        "metadata": {"name": name, "namespace": "kube-system"},
        "stringData": data,
    });
    let api: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    api.patch(&name, &PatchParams::apply("ferrokube").force(), &Patch::Apply(&secret))
        .await
        .context("writing the token")?;
    Ok(())
}

pub async fn delete(client: &Client, id: &str) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let name = Token::secret_name(id);
    api.delete(&name, &DeleteParams::default()).await.with_context(|| format!("deleting the token {id:?}"))?;
    Ok(())
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let secrets = api.list(&ListParams::default().fields(&format!("type={TYPE}"))).await.context("listing tokens")?;
    println!("{:<25}{:<22}{:<24}{:<52}DESCRIPTION", "TOKEN", "EXPIRES", "USAGES", "EXTRA GROUPS");
    for secret in secrets {
        let data = secret.data.unwrap_or_default();
        let get = |key: &str| data.get(key).map(|v| String::from_utf8_lossy(&v.0).into_owned()).unwrap_or_default();
        let usages: Vec<&str> = ["authentication", "signing"]
            .into_iter()
            .filter(|usage| get(&format!("usage-bootstrap-{usage}")) == "true")
            .collect();
        let or = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
        println!(
            "{:<25}{:<22}{:<24}{:<52}{}",
            format!("{}.{}", get("token-id"), get("token-secret")),
            or(get("expiration"), "<forever>"),
            or(usages.join(","), "<none>"),
            or(get("auth-extra-groups"), "<none>"),
            or(get("description"), "<none>"),
        );
    }
    Ok(())
}

/// What a new node runs to join.
pub fn join_command(token: &Token) -> anyhow::Result<String> {
    let (server, ca) = crate::cluster::endpoint()?;
    let hashes = crate::pki::hashes(&ca)?;
    let address = server.trim_start_matches("https://");
    let pins: Vec<String> = hashes.iter().map(|h| format!("--discovery-token-ca-cert-hash {h}")).collect();
    Ok(format!("ferrokube join {address} --token {token} {}", pins.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_tokens_are_tokens() {
        for (text, good) in [
            ("abcdef.0123456789abcdef", true),
            ("abcdef0123456789abcdef", false),
            ("Abcdef.0123456789abcdef", false),
            ("abcde.0123456789abcdef", false),
            ("abcdef.0123456789abcde", false),
            ("abcdef.0123456789abcdef.x", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Token>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_random_token_is_well_formed_and_no_other() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.to_string().parse::<Token>().unwrap(), one);
        assert_ne!(one, other);
    }
}
