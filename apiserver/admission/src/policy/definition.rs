//! What policies that check and policies that mutate have in common, and which of them a write meets.

use super::params;
use super::request::Request;
use crate::match_conditions::MatchConditions;
use crate::rules::MatchResources;
use apimachinery::Value as Json;
use handlers::api::admission::Attributes;
use handlers::api::{Api, Endpoint};
use http::StatusCode;
use kubernetes_cel::{Env, Program, Type, Variable};
use registry::expressions::admission_environment;
use request::status::Status;
use serde_json::json;
use std::sync::Arc;

/// What every policy has, compiled.
pub struct Definition {
    pub name: String,
    pub matches: Result<MatchResources, String>,
    pub conditions: MatchConditions,
    pub param_kind: Json,
    /// What its expressions may name.
    pub env: Env,
    pub variables: Vec<Result<Program, String>>,
    /// `failurePolicy: Fail`
    pub fail: bool,
}

/// The binding of a policy.
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub matches: Result<MatchResources, String>,
    pub param_ref: Json,
    /// `validationActions`
    pub actions: Vec<String>,
}

/// A policy of either kind.
pub trait Policy {
    fn definition(&self) -> &Definition;
}

/// A policy to be evaluated on a write.
pub struct Invocation<P> {
    pub policy: Arc<P>,
    pub binding: Arc<Binding>,
    /// The version of the resource in which the policy matches the write.
    pub endpoint: Arc<Endpoint>,
    pub params: Json,
}

/// A policy that should be evaluated and can't be.
pub struct Misconfigured<P> {
    pub policy: Arc<P>,
    pub binding: Option<Arc<Binding>>,
    pub why: String,
}

pub fn text(value: &Json) -> String {
    value.as_str().unwrap_or("").to_owned()
}

impl Definition {
    /// Reads a policy; `mutation`: its expressions may make objects and patches.
    pub fn read(policy: &Json, mutation: bool) -> Definition {
        let spec = &policy["spec"];
        let has_params = !spec["paramKind"].is_null();
        let mut env = Env { mutation, ..admission_environment(has_params) };
        let mut variables = Vec::new();
        for variable in spec["variables"].as_array().into_iter().flatten() {
            let program = Program::compile(&text(&variable["expression"]), &env).map_err(|e| e.to_string());
            let ty = program.as_ref().map_or(Type::Dyn, |program| program.result().clone());
            env.variables.push(Variable { name: format!("variables.{}", text(&variable["name"])), ty });
            variables.push(program);
        }
        Definition {
            name: text(&policy["metadata"]["name"]),
            matches: MatchResources::read(&spec["matchConstraints"]).map_err(|e| e.to_string()),
            conditions: MatchConditions::compile(&spec["matchConditions"], has_params),
            param_kind: spec["paramKind"].clone(),
            env,
            variables,
            fail: spec["failurePolicy"] != "Ignore",
        }
    }
}

impl Binding {
    pub fn read(binding: &Json) -> Binding {
        let spec = &binding["spec"];
        Binding {
            name: text(&binding["metadata"]["name"]),
            policy: text(&spec["policyName"]),
            matches: MatchResources::read(&spec["matchResources"]).map_err(|e| e.to_string()),
            param_ref: spec["paramRef"].clone(),
            actions: spec["validationActions"].as_array().into_iter().flatten().map(text).collect(),
        }
    }
}

/// The policies that a write meets, by policy, binding and params, in the order of their names; beside them those that can't be
/// evaluated and whose `failurePolicy` is `Fail`.
pub fn invocations<P: Policy>(
    api: &Api,
    request: &Request,
    attributes: &Attributes<'_>,
    policies: &[Arc<P>],
    bindings: &[Arc<Binding>],
) -> (Vec<Invocation<P>>, Vec<Misconfigured<P>>) {
    let (mut invocations, mut misconfigured) = (Vec::new(), Vec::new());
    for policy in policies {
        let definition = policy.definition();
        let of_policy: Vec<&Arc<Binding>> = bindings.iter().filter(|b| b.policy == definition.name).collect();
        if of_policy.is_empty() {
            continue;
        }
        let mut failed = |binding: Option<&Arc<Binding>>, why: &str| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            let why = format!("failed to configure {what}: {why}");
            misconfigured.extend(definition.fail.then(|| Misconfigured {
                policy: policy.clone(),
                binding: binding.cloned(),
                why,
            }));
        };
        let endpoint = match &definition.matches {
            Ok(matches) => match request.matched(matches, attributes) {
                Some(endpoint) => endpoint,
                None => continue,
            },
            Err(why) => {
                failed(None, why);
                continue;
            }
        };
        for binding in of_policy {
            match &binding.matches {
                Ok(matches) if request.matched(matches, attributes).is_some() => {}
                Ok(_) => continue,
                Err(why) => {
                    failed(Some(binding), why);
                    continue;
                }
            }
            match params::collect(api, &definition.param_kind, &binding.param_ref, attributes.namespace) {
                Ok(found) => invocations.extend(found.into_iter().map(|params| Invocation {
                    policy: policy.clone(),
                    binding: binding.clone(),
                    endpoint: endpoint.clone(),
                    params,
                })),
                Err(why) => failed(Some(binding), &why),
            }
        }
    }
    (invocations, misconfigured)
}

/// The Status of a refusal, with the reason that the policy chose.
pub fn refusal(attributes: &Attributes<'_>, why: &str, reason: &str) -> Status {
    let mut status = attributes.forbidden(why);
    let (reason, code) = match reason {
        "Forbidden" => ("Forbidden", StatusCode::FORBIDDEN),
        "Unauthorized" => ("Unauthorized", StatusCode::UNAUTHORIZED),
        "RequestEntityTooLarge" => ("RequestEntityTooLarge", StatusCode::PAYLOAD_TOO_LARGE),
        _ => ("Invalid", StatusCode::UNPROCESSABLE_ENTITY),
    };
    (status.reason, status.code) = (reason.into(), code);
    let causes = status.details.get_or_insert_default().entry("causes").or_insert_with(|| json!([]));
    if let Some(causes) = causes.as_array_mut() {
        causes.push(json!({"message": why}));
    }
    status
}
