//! The rules of a definition, checked when it is written: do they compile, and can they become too dear?

use super::{OLD_SELF, environment, parse_field_path};
use apimachinery::schema::ListType;
use apimachinery::schema::structural::{Additional, Structural, Validation};
use apimachinery::validation::{Cursor, FieldError, Path};
use apimachinery::{Map, Value as Json};
use kubernetes_cel::{Program, Type, cost, schema};

/// What one expression may cost for one object, as estimated.
const EXPRESSION_COST_MAX: u64 = 10_000_000;
/// What all expressions of a schema may cost.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// Expressions that are named when the whole is too dear.
const DEAREST: usize = 4;

/// Checks the expressions in a schema in which nothing else is wrong.
pub fn validate(schema: &Cursor<'_>) {
    let Some(given) = schema.value().filter(|given| has_rules(given)) else { return };
    let mut estimate = CostEstimate { at: schema, total: 0, dearest: Vec::new() };
    estimate.walk(&Structural::read(given), &schema.path(), true, Some(1), None);
    estimate.whole(&schema.path());
}

/// Whether a schema holds any rule, wherever.
fn has_rules(schema: &Json) -> bool {
    match schema {
        Json::Object(members) => members.contains_key("x-kubernetes-validations") || members.values().any(has_rules),
        Json::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

struct CostEstimate<'c> {
    at: &'c Cursor<'c>,
    total: u64,
    /// Costs, and where.
    dearest: Vec<(u64, Path)>,
}

/// `exceeds budget by factor of …`
fn too_dear(what: &str, cost: u64, max: u64) -> String {
    let factor = cost as f64 / max as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as upstream shows it in errors.
fn shown(validation: &Validation) -> Json {
    let some = |text: &str| if text.is_empty() { Json::Null } else { text.into() };
    let mut rule = Map::new();
    rule.insert("Rule".into(), validation.rule.as_str().into());
    rule.insert("Message".into(), validation.message.as_str().into());
    rule.insert("MessageExpression".into(), validation.message_expression.as_str().into());
    rule.insert("Reason".into(), some(&validation.reason));
    rule.insert("FieldPath".into(), validation.field_path.as_str().into());
    rule.insert("OptionalOldSelf".into(), if validation.optional_old_self { true.into() } else { Json::Null });
    rule.into()
}

impl CostEstimate<'_> {
    /// `places`: how many values of this place an object can hold, if its schema says. `loose`: the nearest place above whose parts
    /// can't be compared with what they were.
    fn walk(&mut self, schema: &Structural, path: &Path, root: bool, places: Option<u64>, loose: Option<&Path>) {
        let validations = schema.validations.as_deref().unwrap_or_default();
        if !validations.is_empty() {
            let list = path.child("x-kubernetes-validations");
            match schema::declare(schema, root) {
                Some(ty) => {
                    for (i, validation) in validations.iter().enumerate() {
                        self.rule(schema, validation, &ty, &list.index(i), places, loose);
                    }
                }
                None => self.at.push(FieldError::invalid(
                    &list,
                    Json::Null,
                    "x-kubernetes-validations is only allowed on values of a known type",
                )),
            }
        }
        let times = |limit: Option<u64>| places.zip(limit).map(|(places, limit)| places.saturating_mul(limit));
        let below = if schema.atomic { Some(path) } else { loose };
        for (name, property) in &schema.properties {
            self.walk(property, &path.child("properties").key(name), false, places, below);
        }
        if let Additional::Values(values) = &schema.additional {
            self.walk(values, &path.child("additionalProperties"), false, times(schema.limits().properties), below);
        }
        if let Some(items) = &schema.items {
            let loose = if matches!(schema.list_type, ListType::Map(_)) { loose } else { Some(path) };
            self.walk(items, &path.child("items"), false, times(schema.limits().items), loose);
        }
    }

    fn rule(
        &mut self,
        schema: &Structural,
        rule: &Validation,
        ty: &Type,
        path: &Path,
        places: Option<u64>,
        loose: Option<&Path>,
    ) {
        let push = |error| self.at.push(error);
        let env = environment(ty, rule.optional_old_self);
        match Program::compile(&rule.rule, &env) {
            Err(issues) => {
                push(FieldError::invalid(path.child("rule"), shown(rule), format!("compilation failed: {issues}")));
            }
            Ok(program) if !matches!(program.result(), Type::Bool | Type::Dyn) => {
                push(FieldError::invalid(path.child("rule"), shown(rule), "cel expression must evaluate to a bool"));
            }
            Ok(program) => {
                if let Some(loose) = loose.filter(|_| program.uses(OLD_SELF)) {
                    let why =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}");
                    push(FieldError::invalid(path.child("rule"), rule.rule.as_str(), why));
                }
                if rule.optional_old_self && !program.uses(OLD_SELF) {
                    let why = "may not be set if oldSelf is not used in rule";
                    push(FieldError::invalid(path.child("optionalOldSelf"), true, why));
                }
                self.price(schema, &program, "rule", path, places);
            }
        }
        if rule.message_expression.trim().is_empty() {
            return;
        }
        let at = path.child("messageExpression");
        match Program::compile(&rule.message_expression, &env) {
            Err(issues) => {
                self.at.push(FieldError::invalid(
                    &at,
                    shown(rule),
                    format!("messageExpression compilation failed: {issues}"),
                ));
            }
            Ok(program) if !matches!(program.result(), Type::String(_) | Type::Dyn) => {
                self.at.push(FieldError::invalid(&at, shown(rule), "messageExpression must evaluate to a string"));
            }
            Ok(program) => self.price(schema, &program, "messageExpression", path, places),
        }
    }

    fn price(&mut self, schema: &Structural, program: &Program, name: &str, path: &Path, places: Option<u64>) {
        let each = cost::estimate(program);
        let cost = each.saturating_mul(places.unwrap_or_else(|| schema::places(schema)));
        self.total = self.total.saturating_add(cost);
        let at = path.child(name);
        if cost > EXPRESSION_COST_MAX {
            self.at.push(FieldError::forbidden(
                &at,
                too_dear(&format!("estimated {name} cost"), cost, EXPRESSION_COST_MAX),
            ));
        }
        self.dearest.push((cost, at));
        self.dearest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        self.dearest.truncate(DEAREST);
    }

    fn whole(&self, path: &Path) {
        if self.total <= SCHEMA_COST_MAX {
            return;
        }
        for (_, at) in &self.dearest {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.at.push(FieldError::forbidden(at, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.at.push(FieldError::forbidden(path, too_dear(what, self.total, SCHEMA_COST_MAX)));
    }
}

/// Whether a `fieldPath` names a place that the schema knows.
pub fn leads_somewhere(schema: &Structural, field_path: &str) -> bool {
    let Some(steps) = parse_field_path(field_path) else { return false };
    let mut at = schema;
    for step in &steps {
        let (super::Step::Member(name) | super::Step::Key(name)) = step;
        match at.member(name) {
            Some(next) => at = next,
            None => return false,
        }
    }
    !steps.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    fn told(schema: Json) -> Vec<String> {
        let errors = Errors::new();
        let path = Path::new("spec").child("validation").child("openAPIV3Schema");
        validate(&Cursor::at(Some(&schema), path, &errors));
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    fn of_spec(spec: Json) -> Json {
        json!({"type": "object", "properties": {"spec": spec}})
    }

    #[test]
    fn rules_that_can_not_work_are_refused() {
        const AT: &str = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
        let rule = |rule: Json| {
            of_spec(json!({"type": "object", "properties": {"a": {"type": "integer"},
            "l": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}}, "x-kubernetes-validations": [rule]}))
        };
        for (given, want) in [
            (json!({"rule": "self.a > 0 && self.l.all(x, x.startsWith('a'))"}), None),
            (
                json!({"rule": "self.a > oldSelf.a", "messageExpression": "'was ' + string(oldSelf.a)", "fieldPath": ".a", "reason": "FieldValueInvalid"}),
                None,
            ),
            (
                json!({"rule": "self.b > 0"}),
                Some("compilation failed: ERROR: <input>:1:5: undefined field 'b'\n | self.b > 0\n | ....^"),
            ),
            (
                json!({"rule": "self.a ="}),
                Some("compilation failed: ERROR: <input>:1:8: Syntax error: token recognition error"),
            ),
            (json!({"rule": "self.a"}), Some("cel expression must evaluate to a bool")),
            (json!({"rule": "true", "messageExpression": "1"}), Some("messageExpression must evaluate to a string")),
            (json!({"rule": "true", "optionalOldSelf": true}), Some("may not be set if oldSelf is not used in rule")),
        ] {
            let told = told(rule(given.clone()));
            match want {
                None => assert!(told.is_empty(), "{given}: {told:?}"),
                Some(want) => {
                    assert!(told.len() == 1 && told[0].contains(want) && told[0].starts_with(AT), "{given}: {told:?}");
                }
            }
        }
    }

    #[test]
    fn rules_that_could_become_too_dear_are_refused() {
        let list = |limits: Json| {
            let mut schema = json!({"type": "array", "items": {"type": "string", "maxLength": 256},
                "x-kubernetes-validations": [{"rule": "self.all(x, self.exists_one(y, x == y))"}]});
            schema.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
            told(of_spec(schema))
        };
        assert_eq!(list(json!({"maxItems": 100})), [""; 0]);
        let unbounded = list(json!({}));
        assert!(
            unbounded[0].contains("rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"),
            "{unbounded:?}"
        );
        assert!(unbounded.last().unwrap().starts_with(
            "spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds"));
    }

    /// Definitions that others publish, where they are at hand.
    #[test]
    fn rules_of_public_definitions_are_affordable() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/facts/crds/public.jsonl.gz");
        let Ok(file) = std::fs::File::open(path) else { return };
        let lines = std::io::read_to_string(flate2::read::GzDecoder::new(file)).unwrap();
        let mut refused = Vec::new();
        for line in lines.lines() {
            let definition: Json = serde_json::from_str(line).unwrap();
            let errors = Errors::new();
            for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
                let schema = &version["schema"]["openAPIV3Schema"];
                validate(&Cursor::at(Some(schema), Path::new("schema"), &errors));
            }
            let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            refused.extend(errors.into_vec().into_iter().map(|e| format!("{name}: {e}")));
        }
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }

    #[test]
    fn what_has_no_counterpart_is_not_compared() {
        let told = told(of_spec(json!({"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 3,
            "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}})));
        assert!(told[0].ends_with("oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[spec]"), "{told:?}");
    }
}
