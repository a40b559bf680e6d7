//! ValidatingAdmissionPolicies: each binding of a policy that matches a write has its validations run on it.

use super::Memo;
use super::environment::{Access, Input, Scope, environment};
use super::params;
use crate::admission::match_conditions::{self, MatchConditions};
use crate::admission::rules::{self, Gvr, MatchResources, NamespaceLabels, Target};
use crate::admission::{Attributes, Plugin};
use crate::api::Api;
use crate::status::{Result, Status};
use apimachinery::Value as Json;
use futures::future::BoxFuture;
use http::StatusCode;
use kubernetes_cel::{Env, Error, OBJECT_COST_MAX, Program, Value, Variable};
use serde_json::json;
use std::sync::Arc;

pub const GROUP: &str = "admissionregistration.k8s.io";
/// Nothing judges the policies themselves: a bad one could not be removed.
const POLICIES: [&str; 4] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// Of the value of an audit annotation.
const ANNOTATION_CHARS_MAX: usize = 10 * 1024;
/// The annotation that tells of refusals that are only audited.
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

#[derive(Default)]
pub struct ValidatingAdmissionPolicy {
    policies: Memo<Policy>,
    bindings: Memo<Binding>,
}

/// A policy, compiled.
struct Policy {
    name: String,
    matches: std::result::Result<MatchResources, String>,
    conditions: MatchConditions,
    param_kind: Json,
    env: Env,
    variables: Vec<std::result::Result<Program, String>>,
    validations: Vec<Validation>,
    annotations: Vec<(String, std::result::Result<Program, String>)>,
    /// `failurePolicy: Fail`
    fail: bool,
}

struct Validation {
    expression: String,
    program: std::result::Result<Program, String>,
    message: String,
    message_program: Option<Program>,
    reason: String,
}

struct Binding {
    name: String,
    policy: String,
    matches: std::result::Result<MatchResources, String>,
    param_ref: Json,
    actions: Vec<String>,
}

/// A refusal: why, and upstream's reason for the Status.
#[derive(Debug, PartialEq)]
struct Refusal {
    message: String,
    reason: String,
    /// Which of the validations.
    index: usize,
}

/// What evaluating a policy once came to.
#[derive(Default)]
struct Verdict {
    refusals: Vec<Refusal>,
    /// Keys and values for the audit log.
    annotations: Vec<(String, String)>,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), reason: String::new(), index: 0 }
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or("").to_owned()
}

impl Policy {
    fn read(policy: &Json) -> Policy {
        let spec = &policy["spec"];
        let list = |name: &str| spec[name].as_array().into_iter().flatten();
        let has_params = !spec["paramKind"].is_null();
        let mut env = environment(has_params);
        let mut variables = Vec::new();
        for variable in list("variables") {
            let program = Program::compile(&text(&variable["expression"]), &env).map_err(|e| e.to_string());
            let ty = program.as_ref().map_or(kubernetes_cel::Type::Dyn, |program| program.result().clone());
            env.variables.push(Variable { name: format!("variables.{}", text(&variable["name"])), ty });
            variables.push(program);
        }
        let validation = |validation: &Json| {
            let expression = text(&validation["expression"]);
            let message = text(&validation["messageExpression"]);
            Validation {
                program: match_conditions::compile(&expression, &env),
                expression,
                message: text(&validation["message"]),
                message_program: (!message.is_empty()).then(|| Program::compile(&message, &env).ok()).flatten(),
                reason: text(&validation["reason"]),
            }
        };
        let annotation = |annotation: &Json| {
            let program = Program::compile(&text(&annotation["valueExpression"]), &env).map_err(|e| e.to_string());
            (text(&annotation["key"]), program)
        };
        Policy {
            name: text(&policy["metadata"]["name"]),
            matches: MatchResources::read(&spec["matchConstraints"]).map_err(|e| e.to_string()),
            conditions: MatchConditions::compile(&spec["matchConditions"], has_params),
            param_kind: spec["paramKind"].clone(),
            validations: list("validations").map(validation).collect(),
            annotations: list("auditAnnotations").map(annotation).collect(),
            variables,
            env,
            fail: spec["failurePolicy"] != "Ignore",
        }
    }

    /// Runs everything on one write with one object of params.
    fn evaluate(&self, input: &Input, params: &Json, access: &Access<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let failed = |message: String, index| self.fail.then(|| Refusal { index, ..Refusal::new(message) });
        match self.conditions.matches(input, params, access) {
            Ok(true) => {}
            Ok(false) => return verdict,
            Err(why) => {
                verdict.refusals.extend(failed(why, 0));
                return verdict;
            }
        }
        let scope = Scope::new(input, params, &self.env, &self.variables, access, OBJECT_COST_MAX);
        for (index, validation) in self.validations.iter().enumerate() {
            let why = match validation.program.as_ref().map(|program| scope.run(program)) {
                Ok(Ok(Value::Bool(true))) => continue,
                Ok(Ok(Value::Bool(false))) => {
                    verdict.refusals.push(Refusal { index, ..validation.refusal(&scope) });
                    continue;
                }
                Ok(Ok(_)) => format!("expression '{}' resulted in error: not a bool", validation.expression),
                Ok(Err(Error::OverBudget)) if scope.budget.get() == 0 => {
                    let why =
                        "validation failed due to running out of cost budget, no further validation rules will be run";
                    verdict.refusals.extend(failed(why.into(), index));
                    return verdict;
                }
                Ok(Err(error)) => format!("expression '{}' resulted in error: {error}", validation.expression),
                Err(why) => format!("compilation error: {why}"),
            };
            verdict.refusals.extend(failed(why, index));
        }
        for (key, program) in &self.annotations {
            let result = match program {
                Ok(program) => scope.run(program).map_err(|e| e.to_string()),
                Err(why) => Err(format!("compilation error: {why}")),
            };
            match result {
                Ok(Value::Null) => {}
                Ok(Value::String(value)) => {
                    let value: String = value.trim().chars().take(ANNOTATION_CHARS_MAX).collect();
                    if !value.is_empty() {
                        verdict.annotations.push((format!("{}/{key}", self.name), value));
                    }
                }
                Ok(_) => {
                    let why = format!("valueExpression of '{key}' resulted in unsupported return type");
                    verdict.refusals.extend(failed(why, 0));
                }
                Err(why) => verdict.refusals.extend(failed(why, 0)),
            }
        }
        verdict
    }
}

impl Validation {
    fn refusal<'a>(&'a self, scope: &Scope<'a>) -> Refusal {
        let made = self.message_program.as_ref().and_then(|program| scope.run(program).ok());
        let made = made.as_ref().and_then(Value::as_str).map(str::trim).filter(|m| !m.is_empty() && !m.contains('\n'));
        let message = match (made, self.message.trim()) {
            (Some(made), _) => made.to_owned(),
            (None, "") => format!("failed expression: {}", self.expression.trim()),
            (None, fixed) => fixed.to_owned(),
        };
        Refusal { message, reason: self.reason.clone(), index: 0 }
    }
}

impl Binding {
    fn read(binding: &Json) -> Binding {
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

impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.judge(api, attributes) })
    }
}

impl ValidatingAdmissionPolicy {
    fn judge(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        let row = attributes.endpoint.row.clone();
        if row.kind.group == GROUP && POLICIES.contains(&row.plural.as_str()) {
            return Ok(());
        }
        let Some(policies) = api.endpoint(GROUP, "v1", POLICIES[0]) else { return Ok(()) };
        let policies = self.policies.all(policies.cache()?, Policy::read);
        if policies.is_empty() {
            return Ok(());
        }
        let Some(bindings) = api.endpoint(GROUP, "v1", POLICIES[1]) else { return Ok(()) };
        let bindings = self.bindings.all(bindings.cache()?, Binding::read);
        let request = Request::new(api, attributes)?;
        let mut refused: Vec<(Arc<Policy>, Option<Arc<Binding>>, Refusal)> = Vec::new();
        let (mut warnings, mut annotations) = (Vec::new(), Vec::new());
        for policy in &policies {
            let of_policy: Vec<&Arc<Binding>> = bindings.iter().filter(|b| b.policy == policy.name).collect();
            if of_policy.is_empty() {
                continue;
            }
            let misconfigured = |binding: Option<&Arc<Binding>>, why: &str| {
                let what = if binding.is_some() { "binding" } else { "policy" };
                let refusal = Refusal::new(format!("failed to configure {what}: {why}"));
                policy.fail.then(|| (policy.clone(), binding.cloned(), refusal))
            };
            match &policy.matches {
                Ok(matches) if request.matches(matches, attributes) => {}
                Ok(_) => continue,
                Err(why) => {
                    refused.extend(misconfigured(None, why));
                    continue;
                }
            }
            let access = Access { api, user: attributes.user };
            let input = Input::of(attributes, request.namespace.clone());
            for binding in of_policy {
                match &binding.matches {
                    Ok(matches) if request.matches(matches, attributes) => {}
                    Ok(_) => continue,
                    Err(why) => {
                        refused.extend(misconfigured(Some(binding), why));
                        continue;
                    }
                }
                let params = match params::collect(api, &policy.param_kind, &binding.param_ref, attributes.namespace) {
                    Ok(params) => params,
                    Err(why) => {
                        refused.extend(misconfigured(Some(binding), &why));
                        continue;
                    }
                };
                let verdicts = params.iter().map(|params| policy.evaluate(&input, params, &access));
                for verdict in verdicts {
                    annotations.extend(verdict.annotations);
                    for refusal in verdict.refusals {
                        let acts = |action: &str| binding.actions.iter().any(|a| a == action);
                        if acts("Warn") {
                            warnings.push(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                                policy.name, binding.name, refusal.message
                            ));
                        }
                        if acts("Audit") {
                            let failure = json!([{"message": refusal.message, "policy": policy.name, "binding": binding.name,
                                "expressionIndex": refusal.index, "validationActions": binding.actions}]);
                            annotations.push((FAILURE.into(), failure.to_string()));
                        }
                        if acts("Deny") {
                            refused.push((policy.clone(), Some(binding.clone()), refusal));
                        }
                    }
                }
            }
        }
        // A key has one value: what several bindings say of it stands side by side.
        for (key, value) in annotations {
            match attributes.audit_annotations.iter_mut().find(|(k, _)| *k == key) {
                Some((_, there)) if key != FAILURE && !there.split(", ").any(|v| v == value) => {
                    there.push_str(", ");
                    there.push_str(&value);
                }
                Some(_) => {}
                None => attributes.audit_annotations.push((key, value)),
            }
        }
        attributes.warnings.extend(warnings);
        match refused.into_iter().next() {
            None => Ok(()),
            Some((policy, binding, refusal)) => {
                let binding = binding.map_or(String::new(), |binding| format!(" with binding '{}'", binding.name));
                let why =
                    format!("ValidatingAdmissionPolicy '{}'{binding} denied request: {}", policy.name, refusal.message);
                Err(status(attributes, &why, &refusal.reason))
            }
        }
    }
}

/// The Status of a refusal, with the reason that the validation chose.
fn status(attributes: &Attributes<'_>, why: &str, reason: &str) -> Status {
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

/// A write as policies match it.
struct Request {
    others: Vec<(String, String, String)>,
    /// The namespace it is in, whole; `null` outside.
    namespace: Json,
    /// The labels that namespace selectors look at; none where every selector takes it.
    labels: Option<Json>,
}

impl Request {
    fn new(api: &Api, attributes: &Attributes<'_>) -> Result<Request> {
        let target = target(attributes);
        let find = |name: &str| -> Result<Json> {
            let mut namespace = api.cached(&*api.builtin("", "v1", "namespaces")?, "", name)?.tree();
            namespace["apiVersion"] = "v1".into();
            namespace["kind"] = "Namespace".into();
            Ok(namespace)
        };
        let is_namespace = attributes.is_resource("", "namespaces");
        let namespace =
            if attributes.namespace.is_empty() || is_namespace { Json::Null } else { find(attributes.namespace)? };
        let labels = match rules::namespace_labels(&target) {
            NamespaceLabels::None => None,
            NamespaceLabels::Own => {
                Some(attributes.object.as_ref().map(|o| o["metadata"]["labels"].clone()).unwrap_or_default())
            }
            NamespaceLabels::Of(_) if !namespace.is_null() => Some(namespace["metadata"]["labels"].clone()),
            NamespaceLabels::Of(name) => Some(find(name)?["metadata"]["labels"].clone()),
        };
        // Versions and groups that share their storage are the same resource.
        let row = &attributes.endpoint.row;
        let served = api.served.load();
        let same = served.versions.iter().flat_map(|(_, table)| table.values()).filter(|endpoint| {
            row.storage.is_some()
                && endpoint.row.storage.as_ref().map(|s| &s.prefix) == row.storage.as_ref().map(|s| &s.prefix)
        });
        let others =
            same.map(|e| (e.row.kind.group.clone(), e.row.kind.version.clone(), e.row.plural.clone())).collect();
        Ok(Request { others, namespace, labels })
    }

    fn matches(&self, matches: &MatchResources, attributes: &Attributes<'_>) -> bool {
        let others: Vec<Gvr<'_>> =
            self.others.iter().map(|(group, version, resource)| Gvr { group, version, resource }).collect();
        let target = target(attributes);
        let in_namespace = self.labels.as_ref().is_none_or(|labels| {
            matches.namespace_selector.is_everything() || matches.namespace_selector.matches_object(Some(labels))
        });
        in_namespace
            && matches.selects_object(attributes.object.as_ref(), attributes.old)
            && matches.resource(&target, &others).is_some()
    }
}

fn target<'t>(attributes: &'t Attributes<'_>) -> Target<'t> {
    let row = &attributes.endpoint.row;
    Target {
        operation: attributes.operation.as_str(),
        resource: Gvr { group: &row.kind.group, version: &row.kind.version, resource: &row.plural },
        subresource: attributes.subresource,
        namespace: if row.namespaced { attributes.namespace } else { "" },
        name: attributes.name,
    }
}
