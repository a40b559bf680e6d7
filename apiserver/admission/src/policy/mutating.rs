//! MutatingAdmissionPolicies: each binding of a policy that matches a write changes the object, one after the other, as a
//! configuration that is applied or as a JSON patch. (KEP-3962.)

use super::definition::{Binding, Definition, Invocation, Policy as _, invocations, refusal, text};
use super::environment::{Access, Input, Scope};
use super::metrics::{self, ErrorType};
use super::request::Request;
use super::{GROUP, Memo, is_exempt};
use crate::mutating_webhook::completed;
use apimachinery::Value as Json;
use apimachinery::apply::{atomics, merge};
use apimachinery::codec::Report;
use apimachinery::patch::{JsonPatchError, json_patch};
use futures::future::BoxFuture;
use handlers::api::admission::{Attributes, Plugin};
use handlers::api::{Api, Endpoint};
use kubernetes_cel::{Error, OBJECT_COST_MAX, Program, Value};
use registry::edit::typed;
use registry::metrics::evaluating;
use request::status::Result;
use serde_json::json;
use std::time::Instant;

const OUT_OF_BUDGET: &str = "mutation failed due to running out of cost budget, no further mutations will be run";

#[derive(Default)]
pub struct MutatingAdmissionPolicy {
    policies: Memo<Policy>,
    bindings: Memo<Binding>,
}

struct Policy {
    definition: Definition,
    mutations: Vec<Mutation>,
    /// `reinvocationPolicy: IfNeeded`
    reinvoke: bool,
}

impl super::definition::Policy for Policy {
    fn definition(&self) -> &Definition {
        &self.definition
    }
}

/// One change, which depends on the object as the change before left it.
struct Mutation {
    applies: bool,
    expression: String,
    program: std::result::Result<Program, String>,
}

/// What an expression wants done.
enum Patch {
    /// Laid over the object as by server-side apply.
    Configuration(Json),
    Operations(Json),
}

impl Policy {
    fn read(policy: &Json) -> Policy {
        let definition = Definition::read(policy, true);
        let mutation = |mutation: &Json| {
            let applies = mutation["patchType"] == "ApplyConfiguration";
            let member = if applies { "applyConfiguration" } else { "jsonPatch" };
            let expression = text(&mutation[member]["expression"]);
            let program = Program::compile(&expression, &definition.env).map_err(|e| e.to_string());
            Mutation { applies, expression, program }
        };
        Policy {
            mutations: policy["spec"]["mutations"].as_array().into_iter().flatten().map(mutation).collect(),
            reinvoke: policy["spec"]["reinvocationPolicy"] == "IfNeeded",
            definition,
        }
    }
}

impl Mutation {
    /// Runs the expression on a write.
    fn patch(
        &self,
        definition: &Definition,
        input: &Input,
        params: &Json,
        access: &Access<'_>,
    ) -> std::result::Result<Patch, String> {
        let program = self.program.as_ref().map_err(|why| format!("compilation error: compilation failed: {why}"))?;
        let scope = Scope::new(input, params, &definition.env, &definition.variables, access, OBJECT_COST_MAX);
        let value = match scope.run(program) {
            Err(Error::OverBudget) if scope.budget.get() == 0 => {
                return Err(OUT_OF_BUDGET.into());
            }
            result => result.map_err(|e| format!("expression '{}' resulted in error: {e}", self.expression))?,
        };
        value.check_names().map_err(|why| format!("type mismatch: {why}"))?;
        let json = value.to_json().ok_or("the value of the expression has no JSON form")?;
        match (self.applies, &value) {
            (true, Value::Struct(..)) => Ok(Patch::Configuration(json)),
            (false, Value::List(_)) => Ok(Patch::Operations(json)),
            (true, _) => Err("unsupported return type from ApplyConfiguration expression".into()),
            (false, _) => Err("type mismatch: JSONPatchType.expression should evaluate to array".into()),
        }
    }
}

/// An object with `kind` and `apiVersion` as a patch leaves it; `None` where a test of the patch does not hold.
fn patched(
    object: &Json,
    patch: Patch,
    endpoint: &Endpoint,
    subresource: &str,
) -> std::result::Result<Option<Json>, String> {
    match patch {
        Patch::Operations(operations) => {
            let mut object = object.clone();
            match json_patch(&mut object, operations) {
                Ok(()) => Ok(Some(object)),
                Err(JsonPatchError::Test { .. }) => Ok(None),
                Err(error) => Err(format!("JSONPath: {error}")),
            }
        }
        Patch::Configuration(mut config) => {
            let form = endpoint.row.form_of(subresource).ok_or("nobody knows the object's type")?;
            let failed =
                |why: String| format!("error applying patch: failed to convert patch object to typed object: {why}");
            let mut report = Report::default();
            form.normalize(&mut config.clone(), &mut report).map_err(|e| failed(e.to_string()))?;
            if let Some(unknown) = report.unknown.first() {
                return Err(failed(format!(".{unknown}: field not declared in schema")));
            }
            let found = atomics(&config, form.node());
            if !found.is_empty() {
                let found = found.join(", ");
                return Err(format!(
                    "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {found}"
                ));
            }
            (config["apiVersion"], config["kind"]) = (object["apiVersion"].clone(), object["kind"].clone());
            Ok(Some(merge(object, &config, form.node())))
        }
    }
}

impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn operations(&self) -> (&'static str, &'static str) {
        ("CUDO", "")
    }

    fn admit<'a>(&'a self, api: &'a Api, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.mutate(api, attributes))
    }
}

impl MutatingAdmissionPolicy {
    async fn mutate(&self, api: &Api, attributes: &mut Attributes<'_>) -> Result<()> {
        if is_exempt(attributes) {
            return Ok(());
        }
        // Both versions share one cache, of which either may be served.
        let served = |plural| ["v1beta1", "v1alpha1"].iter().find_map(|version| api.endpoint(GROUP, version, plural));
        let Some(policies) = served("mutatingadmissionpolicies") else { return Ok(()) };
        let policies = self.policies.all(policies.cache()?, Policy::read);
        if policies.is_empty() {
            return Ok(());
        }
        let Some(bindings) = served("mutatingadmissionpolicybindings") else { return Ok(()) };
        let bindings = self.bindings.all(bindings.cache()?, Binding::read);
        let request = Request::new(api, attributes)?;
        let (invocations, misconfigured) = invocations(api, &request, attributes, &policies, &bindings);
        let mut refusals: Vec<String> =
            misconfigured.into_iter().map(|m| refused(m.policy.definition(), m.binding.as_deref(), &m.why)).collect();
        attributes.policy_reinvocation.start(attributes.object.as_ref());
        for invocation in &invocations {
            let definition = &invocation.policy.definition;
            let started = Instant::now();
            let outcome = invoke(api, &request, attributes, invocation).await?;
            let error = outcome.as_ref().err().map_or(ErrorType::None, |why| error_type(why));
            metrics::mutated(&definition.name, &invocation.binding.name, error, started.elapsed());
            if let Err(why) = outcome {
                refusals.extend(definition.fail.then(|| refused(definition, Some(&invocation.binding), &why)));
            }
        }
        attributes.policy_reinvocation.end(attributes.object.as_ref());
        let Some(first) = refusals.first() else { return Ok(()) };
        let mut status = refusal(attributes, first, "Invalid");
        if let Some(causes) = status.details.as_mut().and_then(|d| d.get_mut("causes")).and_then(Json::as_array_mut) {
            causes.extend(refusals[1..].iter().map(|message| json!({"message": message})));
        }
        Err(status)
    }
}

fn error_type(why: &str) -> ErrorType {
    if why.starts_with("compilation error") {
        ErrorType::Compile
    } else if why == OUT_OF_BUDGET {
        ErrorType::OutOfBudget
    } else {
        ErrorType::Invalid
    }
}

fn refused(definition: &Definition, binding: Option<&Binding>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{}' with binding '{}' denied request: {why}", definition.name, binding.name),
        None => format!("policy '{}' denied request: {why}", definition.name),
    }
}

/// Runs the mutations of one policy. The inner error is one of the policy, the outer one of the server. What the mutations before a
/// failure changed stays.
async fn invoke(
    api: &Api,
    request: &Request,
    attributes: &mut Attributes<'_>,
    invocation: &Invocation<Policy>,
) -> Result<std::result::Result<(), String>> {
    let Invocation { policy, binding, endpoint, params } = invocation;
    let key = |params: &Json| format!("{}/{}", params["metadata"]["namespace"], params["metadata"]["name"]);
    let id = format!("{}/{}/{}", policy.definition.name, binding.name, key(params));
    let (object, old) = attributes.in_version(api, endpoint).await?;
    let old = old.map(|old| old.into_owned());
    let Some(before) = object.map(|object| object.into_owned()) else { return Ok(Ok(())) };
    let mut object = before.clone();
    let mut outcome = Ok(());
    {
        let access = Access { api, user: attributes.user };
        let input = Input::of(attributes, endpoint, Some(&object), old.as_ref(), request.namespace.clone());
        match policy.definition.conditions.matches(&input, params, &access) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(why) => return Ok(Err(why)),
        }
        if attributes.policy_reinvocation.skips(&id) {
            return Ok(Ok(()));
        }
    }
    for mutation in &policy.mutations {
        match mutated(api, request, attributes, invocation, mutation, &object, old.as_ref())? {
            Ok(Some(new)) => object = new,
            Ok(None) => {}
            Err(why) => outcome = outcome.and(Err(why)),
        }
    }
    let changed = object != before;
    if changed {
        attributes.object = Some(attributes.in_own_version(api, endpoint, object).await?);
    }
    attributes.policy_reinvocation.asked(&id, policy.reinvoke, changed);
    Ok(outcome)
}

/// The object after one mutation, completed; none if it does not change it.
fn mutated(
    api: &Api,
    request: &Request,
    attributes: &Attributes<'_>,
    invocation: &Invocation<Policy>,
    mutation: &Mutation,
    object: &Json,
    old: Option<&Json>,
) -> Result<std::result::Result<Option<Json>, String>> {
    let (endpoint, subresource) = (&invocation.endpoint, attributes.subresource);
    let access = Access { api, user: attributes.user };
    let input = Input::of(attributes, endpoint, Some(object), old, request.namespace.clone());
    let definition = &invocation.policy.definition;
    let made = evaluating(|| mutation.patch(definition, &input, &invocation.params, &access));
    let kind = endpoint.row.kind_of(subresource);
    let whole = typed(object.clone(), kind);
    match made.and_then(|patch| patched(&whole, patch, endpoint, subresource)) {
        Ok(Some(new)) => completed(new, kind, endpoint, subresource).map(|new| Ok(Some(new))),
        Ok(None) => Ok(Ok(None)),
        Err(why) => Ok(Err(why)),
    }
}
