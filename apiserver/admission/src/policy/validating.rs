//! ValidatingAdmissionPolicies: each binding of a policy that matches a write has its validations run on it.

use super::definition::{Binding, Definition, Invocation, invocations, text};
use super::environment::{Access, Input, Scope};
use super::metrics::{self, ErrorType};
use super::request::Request;
use super::{GROUP, Memo, is_exempt};
use crate::match_conditions;
use apimachinery::Value as Json;
use futures::future::BoxFuture;
use handlers::api::admission::{Attributes, Plugin};
use handlers::api::{Api, Endpoint};
use kubernetes_cel::{Error, OBJECT_COST_MAX, Program, Value};
use registry::metrics::evaluating;
use request::status::Result;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    definition: Definition,
    validations: Vec<Validation>,
    annotations: Vec<(String, std::result::Result<Program, String>)>,
}

impl super::definition::Policy for Policy {
    fn definition(&self) -> &Definition {
        &self.definition
    }
}

struct Validation {
    expression: String,
    program: std::result::Result<Program, String>,
    message: String,
    message_program: Option<Program>,
    reason: String,
}

/// A refusal: why, and upstream's reason for the Status.
#[derive(Debug, Default, PartialEq)]
struct Refusal {
    message: String,
    reason: String,
    /// Which of the validations.
    index: usize,
    error: ErrorType,
    /// How long it took to find out.
    took: Duration,
}

/// What evaluating a policy once came to.
#[derive(Default)]
struct Verdict {
    refusals: Vec<Refusal>,
    /// Keys and values for the audit log.
    annotations: Vec<(String, String)>,
    /// Failures that the policy wants ignored.
    ignored: Vec<(ErrorType, Duration)>,
}

impl Refusal {
    /// Of a policy that can't be run.
    fn misconfigured(why: String) -> Refusal {
        Refusal { message: why, error: ErrorType::Invalid, ..Refusal::default() }
    }
}

impl Verdict {
    /// What a failure comes to.
    fn failed(&mut self, definition: &Definition, refusal: Refusal) {
        if definition.fail {
            self.refusals.push(refusal);
        } else {
            self.ignored.push((refusal.error, refusal.took));
        }
    }
}

impl Policy {
    fn read(policy: &Json) -> Policy {
        let definition = Definition::read(policy, false);
        let env = &definition.env;
        let list = |name: &str| policy["spec"][name].as_array().into_iter().flatten();
        let validation = |validation: &Json| {
            let expression = text(&validation["expression"]);
            let message = text(&validation["messageExpression"]);
            Validation {
                program: match_conditions::compile(&expression, env),
                expression,
                message: text(&validation["message"]),
                message_program: (!message.is_empty()).then(|| Program::compile(&message, env).ok()).flatten(),
                reason: text(&validation["reason"]),
            }
        };
        let annotation = |annotation: &Json| {
            let program = Program::compile(&text(&annotation["valueExpression"]), env).map_err(|e| e.to_string());
            (text(&annotation["key"]), program)
        };
        Policy {
            validations: list("validations").map(validation).collect(),
            annotations: list("auditAnnotations").map(annotation).collect(),
            definition,
        }
    }

    /// Runs everything on one write with one object of params.
    fn evaluate(&self, input: &Input, params: &Json, access: &Access<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let definition = &self.definition;
        let mut since = Instant::now();
        let mut lap = || {
            let now = Instant::now();
            now - std::mem::replace(&mut since, now)
        };
        match definition.conditions.matches(input, params, access) {
            Ok(true) => {}
            Ok(false) => return verdict,
            Err(message) => {
                let error = ErrorType::Invalid;
                verdict.failed(definition, Refusal { message, error, took: lap(), ..Refusal::default() });
                return verdict;
            }
        }
        let scope = Scope::new(input, params, &definition.env, &definition.variables, access, OBJECT_COST_MAX);
        for (index, validation) in self.validations.iter().enumerate() {
            let invalid = |why: &str| {
                (format!("expression '{}' resulted in error: {why}", validation.expression), ErrorType::Invalid)
            };
            let (message, error) = match validation.program.as_ref().map(|program| scope.run(program)) {
                Ok(Ok(Value::Bool(true))) => continue,
                Ok(Ok(Value::Bool(false))) => {
                    let refusal = validation.refusal(&scope);
                    verdict.refusals.push(Refusal { index, took: lap(), ..refusal });
                    continue;
                }
                Ok(Ok(_)) => invalid("not a bool"),
                Ok(Err(Error::OverBudget)) if scope.budget.get() == 0 => {
                    let why =
                        "validation failed due to running out of cost budget, no further validation rules will be run";
                    (why.to_owned(), ErrorType::OutOfBudget)
                }
                Ok(Err(error)) => invalid(&error.to_string()),
                Err(why) => (format!("compilation error: {why}"), ErrorType::Compile),
            };
            verdict.failed(definition, Refusal { message, error, index, took: lap(), ..Refusal::default() });
            if error == ErrorType::OutOfBudget {
                return verdict;
            }
        }
        for (key, program) in &self.annotations {
            let result = match program {
                Ok(program) => scope.run(program).map_err(|e| (e.to_string(), ErrorType::Invalid)),
                Err(why) => Err((format!("compilation error: {why}"), ErrorType::Compile)),
            };
            let (message, error) = match result {
                Ok(Value::Null) => continue,
                Ok(Value::String(value)) => {
                    let value: String = value.trim().chars().take(ANNOTATION_CHARS_MAX).collect();
                    if !value.is_empty() {
                        verdict.annotations.push((format!("{}/{key}", definition.name), value));
                    }
                    continue;
                }
                Ok(_) => {
                    (format!("valueExpression of '{key}' resulted in unsupported return type"), ErrorType::Invalid)
                }
                Err(failure) => failure,
            };
            verdict.failed(definition, Refusal { message, error, took: lap(), ..Refusal::default() });
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
        Refusal { message, reason: self.reason.clone(), ..Refusal::default() }
    }
}

impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("", "CUDO")
    }

    fn validate<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.evaluate(api, attributes))
    }
}

impl ValidatingAdmissionPolicy {
    async fn evaluate(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let Some(policies) = api.endpoint(GROUP, "v1", "validatingadmissionpolicies") else { return Ok(()) };
        let policies = self.policies.all(policies.cache()?, Policy::read);
        if policies.is_empty() {
            return Ok(());
        }
        let Some(bindings) = api.endpoint(GROUP, "v1", "validatingadmissionpolicybindings") else { return Ok(()) };
        let bindings = self.bindings.all(bindings.cache()?, Binding::read);
        let request = Request::new(api, attributes)?;
        let (invocations, misconfigured) = invocations(api, &request, attributes, &policies, &bindings);
        let mut refused: Vec<(Arc<Policy>, Option<Arc<Binding>>, Refusal)> =
            misconfigured.into_iter().map(|m| (m.policy, m.binding, Refusal::misconfigured(m.why))).collect();
        let (mut warnings, mut annotations) = (Vec::new(), Vec::new());
        let mut input: Option<(Arc<Endpoint>, Input)> = None;
        for Invocation { policy, binding, endpoint, params } in invocations {
            // Most policies see a write in the same version.
            if input.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, &endpoint)) {
                let (object, old) = attributes.in_version(api, &endpoint).await?;
                let namespace = request.namespace.clone();
                let made = Input::of(attributes, &endpoint, object.as_deref(), old.as_deref(), namespace);
                input = Some((endpoint, made));
            }
            let Some((_, input)) = &input else { continue };
            let access = Access { api, user: attributes.user };
            let verdict = evaluating(|| policy.evaluate(input, &params, &access));
            annotations.extend(verdict.annotations);
            for (error, took) in verdict.ignored {
                metrics::validated(&policy.definition.name, &binding.name, error, "allow", took);
            }
            for refusal in verdict.refusals {
                let acts = |action: &str| binding.actions.iter().any(|a| a == action);
                let name = &policy.definition.name;
                for (action, label) in [("Deny", "deny"), ("Audit", "audit"), ("Warn", "warn")] {
                    if acts(action) {
                        metrics::validated(name, &binding.name, refusal.error, label, refusal.took);
                    }
                }
                if acts("Warn") {
                    warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{}': {}",
                        binding.name, refusal.message
                    ));
                }
                if acts("Audit") {
                    let failure = json!([{"message": refusal.message, "policy": name, "binding": binding.name,
                        "expressionIndex": refusal.index, "validationActions": binding.actions}]);
                    annotations.push((FAILURE.into(), failure.to_string()));
                }
                if acts("Deny") {
                    refused.push((policy.clone(), Some(binding.clone()), refusal));
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
                let (name, message) = (&policy.definition.name, &refusal.message);
                let why = format!("ValidatingAdmissionPolicy '{name}'{binding} denied request: {message}");
                Err(super::definition::refusal(attributes, &why, &refusal.reason))
            }
        }
    }
}
