//! ResourceQuotas: what is asked for is charged to the quotas of its namespace before it is stored. The quota's status is
//! changed under its resourceVersion, so that of two requests that come at once only as many pass as there is room for.
//! What turns out not to be stored after all is given back at once; should that fail, the quota controller counts anew.

use apimachinery::Value;
use apimachinery::quantity::Quantity;
use apimachinery::quota::{self, Amounts, Kind, amount};
use futures::future::BoxFuture;
use handlers::api::Api;
use handlers::api::admission::{Attributes, Operation, Plugin};
use handlers::write::Write;
use handlers::write::update::Preconditions;
use jiff::Timestamp;
use request::User;
use request::status::Result;

pub struct ResourceQuota;

/// What one quota of a namespace was charged.
#[derive(Clone, Debug)]
struct Charge {
    quota: String,
    amounts: Amounts,
}

impl handlers::api::admission::Charge for Charge {
    fn give_back<'a>(self: Box<Self>, api: &'a Api, namespace: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (user, Charge { quota, amounts }) = (User::apiserver(), *self);
            let result = async {
                let quotas = api.builtin("", "v1", "resourcequotas")?;
                let mut write = Write::internal(api, &quotas, &user, namespace, &quota);
                write.subresource = "status".into();
                let mut lower = |quota: &Value| Ok(lowered(quota, &amounts));
                write.update(&Preconditions::default(), &mut Vec::new(), &mut lower).await
            };
            if let Err(status) = result.await {
                tracing::debug!(quota, namespace, error = status.message, "a charge was not given back");
            }
        })
    }
}

/// Whether a write can use more than what is there used: objects by being created; those whose size, ports or device requests may
/// grow by their updates too; pods by a resize.
fn may_use_more(attributes: &Attributes<'_>) -> bool {
    let kind = kind(attributes);
    match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => [quota::SERVICES, quota::CLAIMS, quota::DEVICE_CLAIMS].contains(&kind),
        (Operation::Update, "resize") => kind == quota::PODS,
        _ => false,
    }
}

fn kind<'a>(attributes: &Attributes<'a>) -> Kind<'a> {
    let row = &attributes.endpoint.row;
    Kind { group: &row.kind.group, plural: &row.plural }
}

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "CU")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !attributes.endpoint.row.namespaced || !may_use_more(attributes) {
                return Ok(());
            }
            charge(api, attributes).await
        })
    }
}

async fn charge(api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
    let quotas = api.builtin("", "v1", "resourcequotas")?;
    let prefix = format!("{}/", attributes.namespace);
    let snapshot = quotas.cache()?.snapshot();
    let Some(object) = &attributes.object else { return Ok(()) };
    let kind = kind(attributes);
    let mut asked: Option<Amounts> = None;
    let mut concerned = Vec::new();
    for quota in snapshot.range(&prefix, "") {
        let name = quota.name();
        let quota = quota.tree();
        let hard = limits(&quota);
        if !hard.keys().any(|name| Kind::tracking(name) == Some(kind)) || !kind.in_scope(&quota["spec"], object) {
            continue;
        }
        if attributes.is(Operation::Create, "", "pods")
            && let Some(missing) = quota::unstated(object, &hard)
        {
            return Err(attributes.forbidden(&format!("failed quota: {name}: must specify {missing}")));
        }
        let asked = asked.get_or_insert_with(|| increase(kind, attributes, object));
        if asked.keys().any(|resource| hard.contains_key(resource)) {
            concerned.push(name);
        }
    }
    let asked = asked.unwrap_or_default();
    // Where several are concerned, none is charged before all have room.
    let rounds: &[bool] = if concerned.len() > 1 { &[true, false] } else { &[false] };
    let mut charges: Vec<Box<dyn handlers::api::admission::Charge>> = Vec::new();
    for try_only in rounds {
        for name in &concerned {
            let user = User::apiserver();
            let mut write = Write::internal(api, &quotas, &user, attributes.namespace, name);
            write.subresource = "status".into();
            write.options.dry_run = attributes.dry_run || *try_only;
            let mut take = |quota: &Value| charged(quota, &asked).map_err(|why| attributes.forbidden(&why));
            let result = write.update(&Preconditions::default(), &mut Vec::new(), &mut take).await;
            let is_dry = write.options.dry_run;
            if let Err(status) = result {
                for charge in charges {
                    charge.give_back(api, attributes.namespace).await;
                }
                return Err(status);
            }
            if !is_dry {
                charges.push(Box::new(Charge { quota: (*name).to_owned(), amounts: asked.clone() }));
            }
        }
    }
    attributes.charges = charges;
    Ok(())
}

/// The quota with `amounts` less used of what it limits.
fn lowered(quota: &Value, amounts: &Amounts) -> Value {
    let mut new = quota.clone();
    for (resource, given) in amounts {
        let used = amount(&quota["status"]["used"][resource]);
        if let Some(used) = used.filter(|_| quota["status"]["hard"].get(resource).is_some()) {
            let left = used.sub(given);
            let left = if left.sign() < 0 { Quantity::ZERO } else { left };
            new["status"]["used"][resource] = left.to_string().into();
        }
    }
    new
}

fn limits(quota: &Value) -> Amounts {
    let entries = quota["status"]["hard"].as_object().into_iter().flatten();
    entries.filter_map(|(resource, value)| Some((resource.clone(), amount(value)?))).collect()
}

/// What the write adds to what there is.
fn increase(kind: Kind<'_>, attributes: &Attributes<'_>, object: &Value) -> Amounts {
    let now = Timestamp::now();
    let mut asked = kind.usage(object, now);
    if let Some(old) = attributes.old {
        for (resource, had) in kind.usage(old, now) {
            let now = asked.remove(&resource).unwrap_or(Quantity::ZERO);
            asked.insert(resource, now.sub(&had));
        }
    }
    asked.retain(|_, amount| amount.sign() > 0);
    asked
}

/// The quota with `asked` added to what is used, or why that is too much.
fn charged(quota: &Value, asked: &Amounts) -> std::result::Result<Value, String> {
    let (name, hard) = (quota["metadata"]["name"].as_str().unwrap_or(""), limits(quota));
    let used = |resource: &str| amount(&quota["status"]["used"][resource]);
    let unknown: Vec<&str> =
        asked.keys().filter(|r| hard.contains_key(*r) && used(r).is_none()).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    let mut new = quota.clone();
    let mut over: [Vec<String>; 3] = Default::default();
    for (resource, amount) in asked {
        let (Some(hard), Some(used)) = (hard.get(resource), used(resource)) else { continue };
        let sum = used.add(amount);
        if sum > *hard {
            for (list, value) in over.iter_mut().zip([amount, &used, hard]) {
                list.push(format!("{resource}={value}"));
            }
        }
        new["status"]["used"][resource] = sum.to_string().into();
    }
    let [requested, used, limited] = over.map(|list| list.join(","));
    if requested.is_empty() {
        return Ok(new);
    }
    Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_given_back_was_charged_and_no_more() {
        let quota = json!({"status": {"hard": {"pods": "2", "cpu": "1"}, "used": {"pods": "2", "cpu": "100m"}}});
        let amount = |text: &str| text.parse().unwrap();
        let given = Amounts::from([
            ("pods".into(), amount("1")),
            ("cpu".into(), amount("200m")),
            ("memory".into(), amount("1Gi")),
        ]);
        assert_eq!(lowered(&quota, &given)["status"]["used"], json!({"pods": "1", "cpu": "0"}));
    }

    #[test]
    fn what_fits_is_charged_and_what_does_not_is_told() {
        let quota =
            json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "2", "x": "1"}, "used": {"pods": "1"}}});
        let asked = Amounts::from([("pods".to_owned(), quota::count(1)), ("unlimited".to_owned(), quota::count(1))]);
        let once = charged(&quota, &asked).unwrap();
        assert_eq!(once["status"]["used"], json!({"pods": "2"}));
        let why = charged(&once, &asked).unwrap_err();
        assert_eq!(why, "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2");
        let unknown = Amounts::from([("x".to_owned(), quota::count(1))]);
        assert_eq!(charged(&quota, &unknown).unwrap_err(), "status unknown for quota: q, resources: x");
    }
}
