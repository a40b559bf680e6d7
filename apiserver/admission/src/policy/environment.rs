//! What the expressions of policies and of match conditions see of a write.

use apimachinery::Value as Json;
use handlers::api::admission::{Attributes, Operation};
use handlers::api::authorization::{self, ResourceAttributes};
use handlers::api::{Api, Endpoint};
use kubernetes_cel::admission::FIXED;
use kubernetes_cel::value::{Decision, Opaque, ResourceCheck};
use kubernetes_cel::{Activation, Authorizer, CALL_COST_MAX, Env, Error, Program, Value};
use registry::resource::Resource;
use request::User;
use serde_json::json;
use std::cell::{Cell, RefCell};

/// A write, its objects as expressions see them: with `apiVersion` and `kind`.
pub struct Input {
    pub object: Json,
    pub old: Json,
    pub request: Json,
    /// `null` for writes outside of namespaces.
    pub namespace: Json,
}

impl Input {
    /// A write in the version of `endpoint`, which is the one that a policy matches it in.
    pub fn of(
        attributes: &Attributes<'_>,
        endpoint: &Endpoint,
        object: Option<&Json>,
        old: Option<&Json>,
        namespace: Json,
    ) -> Input {
        let row = &endpoint.row;
        let of_object = row.kind_of(attributes.subresource);
        let whole = |object: Option<&Json>| match object {
            Some(object) if object.is_object() => {
                let mut object = object.clone();
                object["apiVersion"] = of_object.api_version().into();
                object["kind"] = of_object.kind.as_str().into();
                object
            }
            _ => Json::Null,
        };
        let kind = |row: &Resource| {
            let kind = row.kind_of(attributes.subresource);
            json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
        };
        let resource =
            |row: &Resource| json!({"group": row.kind.group, "version": row.kind.version, "resource": row.plural});
        let asked = &attributes.endpoint.row;
        let user = attributes.user;
        let options = match attributes.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => "",
        };
        let mut request = json!({
            "kind": kind(row), "resource": resource(row), "requestKind": kind(asked), "requestResource": resource(asked),
            "name": attributes.name, "namespace": attributes.namespace, "operation": attributes.operation.as_str(),
            "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
            "dryRun": attributes.dry_run, "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
        });
        if options.is_empty() {
            request.as_object_mut().map(|members| members.remove("options"));
        }
        if !attributes.subresource.is_empty() {
            request["subResource"] = attributes.subresource.into();
            request["requestSubResource"] = attributes.subresource.into();
        }
        for empty in ["name", "namespace"] {
            if request[empty] == "" {
                request.as_object_mut().map(|members| members.remove(empty));
            }
        }
        Input { object: whole(object), old: whole(old), request, namespace }
    }
}

/// Checks of access for the user of the request.
pub struct Access<'a> {
    pub api: &'a Api,
    pub user: &'a User,
}

impl Access<'_> {
    /// What the caches say now: an expression can't wait for fresher ones.
    fn decide(&self, attributes: &authorization::Attributes<'_>) -> Decision {
        let Some(authz) = self.api.authz.get() else {
            return Decision { error: "no authorizer".into(), ..Decision::default() };
        };
        match authz.decide(attributes) {
            authorization::Decision::Allow(reason) => Decision { allowed: true, reason, error: String::new() },
            authorization::Decision::NoOpinion(reason) => Decision { allowed: false, reason, error: String::new() },
        }
    }

    fn with_user<T>(&self, account: Option<&(String, String)>, act: impl FnOnce(&User) -> T) -> T {
        let Some((namespace, name)) = account else { return act(self.user) };
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
        act(&User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: groups.map(str::to_owned).into(),
            ..User::default()
        })
    }
}

impl Authorizer for Access<'_> {
    fn check_path(&self, path: &str, verb: &str, account: Option<&(String, String)>) -> Decision {
        self.with_user(account, |user| self.decide(&authorization::Attributes { user, verb, resource: None, path }))
    }

    fn check_resource(&self, check: &ResourceCheck, verb: &str) -> Decision {
        let resource = ResourceAttributes {
            group: &check.group,
            resource: &check.resource,
            subresource: &check.subresource,
            namespace: &check.namespace,
            name: &check.name,
            ..Default::default()
        };
        self.with_user(check.service_account.as_ref(), |user| {
            self.decide(&authorization::Attributes { user, verb, resource: Some(resource), path: "" })
        })
    }
}

/// The values of all variables for one evaluation, and the budget that its expressions share.
pub struct Scope<'a> {
    fixed: [Value<'a>; FIXED.len()],
    /// Expressions behind the policy's own variables; made when first named, in an order in which each finds what it names.
    variables: &'a [Result<Program, String>],
    made: RefCell<Vec<Option<Result<Value<'a>, Error>>>>,
    access: &'a Access<'a>,
    pub budget: Cell<u64>,
}

impl<'a> Scope<'a> {
    /// `types` is the environment that the expressions were compiled in.
    pub fn new(
        input: &'a Input,
        params: &'a Json,
        env: &'a Env,
        variables: &'a [Result<Program, String>],
        access: &'a Access<'a>,
        budget: u64,
    ) -> Scope<'a> {
        let value = |json: &'a Json, index: usize| Value::of(json, &env.variables[index].ty);
        let text = |name: &str| input.request[name].as_str().unwrap_or("").to_owned();
        let resource = |name: &str| input.request["resource"][name].as_str().unwrap_or("").to_owned();
        let check = ResourceCheck {
            group: resource("group"),
            resource: resource("resource"),
            subresource: text("subResource"),
            namespace: text("namespace"),
            name: text("name"),
            ..ResourceCheck::default()
        };
        let fixed = [
            value(&input.object, 0),
            value(&input.old, 1),
            value(&input.request, 2),
            value(&input.namespace, 3),
            Value::opaque(Opaque::Authorizer(None)),
            Value::opaque(Opaque::ResourceCheck(check)),
            value(params, 6),
        ];
        let made = RefCell::new(vec![None; variables.len()]);
        Scope { fixed, variables, made, access, budget: Cell::new(budget) }
    }

    /// Runs an expression. It is over budget when it costs more than one may, or more than is left for all.
    pub fn run(&self, program: &'a Program) -> Result<Value<'a>, Error> {
        let limit = self.budget.get().min(CALL_COST_MAX);
        let outcome = program.run(self, limit);
        self.budget.set(self.budget.get().saturating_sub(outcome.cost));
        outcome.result
    }

    /// Makes a variable of the policy and, first, those it names: from the last to the first it is known who is needed.
    fn make(&self, wanted: usize) {
        let mut needed = vec![false; wanted + 1];
        needed[wanted] = true;
        for i in (0..=wanted).rev() {
            if let (true, Ok(program)) = (needed[i], &self.variables[i]) {
                (0..i).filter(|j| program.uses(FIXED.len() + j)).for_each(|j| needed[j] = true);
            }
        }
        for i in (0..=wanted).filter(|i| needed[*i]) {
            if self.made.borrow()[i].is_some() {
                continue;
            }
            let result = match &self.variables[i] {
                Ok(program) => self.run(program),
                Err(why) => Err(Error::new(format!("composited variable fails to compile: {why}"))),
            };
            self.made.borrow_mut()[i] = Some(result);
        }
    }
}

impl<'a> Activation<'a> for Scope<'a> {
    fn variable(&self, index: usize) -> Result<Value<'a>, Error> {
        if let Some(value) = self.fixed.get(index) {
            return Ok(value.clone());
        }
        let own = index - FIXED.len();
        if self.made.borrow().get(own).is_some_and(Option::is_none) {
            self.make(own);
        }
        let made = self.made.borrow().get(own).cloned().flatten();
        made.unwrap_or_else(|| Err(Error::new("no such attribute")))
    }

    fn authorizer(&self) -> Option<&dyn Authorizer> {
        Some(self.access)
    }
}
