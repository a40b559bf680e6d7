//! Rules of custom resources (`x-kubernetes-validations`): compiled once per definition, asked at each write.
//!
//! [`Rules`] is a tree beside the schema with only the places that have rules or lead to some, so that objects of schemas without
//! rules cost nothing. [`definition`] checks the rules themselves when a definition is written.

pub mod definition;

use crate::metrics::compiling;
use apimachinery::Value as Json;
use apimachinery::schema::structural::{Additional, Kind, Structural, Validation};
use apimachinery::validation::{Cursor, ErrorKind, FieldError, Path};
use kubernetes_cel::{CALL_COST_MAX, Env, Error, OBJECT_COST_MAX, Program, Type, Value, schema};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Where `self` and `oldSelf` stand in a rule's environment.
const OLD_SELF: usize = 1;

/// The rules of one place in a schema and of those below it.
#[derive(Debug)]
pub struct Rules {
    own: Vec<Rule>,
    /// The type of the values here.
    ty: Type,
    /// What the schema calls that type.
    kind: &'static str,
    properties: BTreeMap<String, Rules>,
    /// Of a map's values.
    values: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// Members by which an item of a list is found in the old list.
    keys: Vec<String>,
    /// Parts of an atomic object are not compared with what they were.
    atomic: bool,
}

#[derive(Debug)]
struct Rule {
    /// What does not compile (a definition from another version may hold such) fails when it is asked.
    program: Result<Program, String>,
    message: Option<Program>,
    validation: Validation,
    uses_old: bool,
}

/// The environment of a rule on values of a type.
fn environment(ty: &Type, optional_old_self: bool) -> Env {
    let old = if optional_old_self { Type::optional(ty.clone()) } else { ty.clone() };
    Env::new(&[("self", ty.clone()), ("oldSelf", old)])
}

/// The environment of an expression of a policy or match condition, in which the types of objects are not known; `params` are there
/// for policies that have a kind of them.
pub fn admission_environment(params: bool) -> Env {
    kubernetes_cel::admission::environment(Type::Dyn, params.then_some(Type::Dyn))
}

/// What schemas call a type, as messages name it.
fn kind_name(schema: &Structural) -> &'static str {
    match schema.kind {
        _ if schema.int_or_string => "",
        Kind::Object => "object",
        Kind::Array => "array",
        Kind::String => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::Any | Kind::Unknown => "",
    }
}

impl Rules {
    /// The rules of a whole schema; none if it has none.
    pub fn compile(schema: &Structural) -> Option<Rules> {
        Rules::of(schema, true)
    }

    fn of(schema: &Structural, root: bool) -> Option<Rules> {
        let below = |schema: &Structural| Rules::of(schema, false).map(Box::new);
        let properties: BTreeMap<String, Rules> = schema
            .properties
            .iter()
            .filter_map(|(name, schema)| Some((name.clone(), Rules::of(schema, false)?)))
            .collect();
        let values = match &schema.additional {
            Additional::Values(values) => below(values),
            _ => None,
        };
        let items = schema.items.as_deref().and_then(below);
        let validations = schema.validations.as_deref().unwrap_or_default();
        if validations.is_empty() && properties.is_empty() && values.is_none() && items.is_none() {
            return None;
        }
        let ty = schema::declare(schema, root).unwrap_or(Type::Dyn);
        let compile = || validations.iter().map(|validation| Rule::compile(validation, &ty)).collect();
        let own = if validations.is_empty() { Vec::new() } else { compiling(compile) };
        let keys = match &schema.list_type {
            apimachinery::schema::ListType::Map(keys) => keys.iter().map(|key| key.to_string()).collect(),
            _ => Vec::new(),
        };
        Some(Rules { own, ty, kind: kind_name(schema), properties, values, items, keys, atomic: schema.atomic })
    }

    /// Checks an object; `old` is what it was before an update. What did not change is not checked again, but by rules that compare.
    pub fn validate(&self, object: &Cursor<'_>, old: Option<&Json>) {
        // Rules count on types and sizes being right.
        let blocks = |error: &FieldError| match error.kind {
            ErrorKind::Required
            | ErrorKind::NotSupported
            | ErrorKind::TooLong
            | ErrorKind::TooMany
            | ErrorKind::TypeInvalid => true,
            _ => error.detail.contains(" must be of type "),
        };
        if object.errors().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            return object.push(FieldError::invalid(Path::root(), Json::Null, why));
        }
        self.walk(object, old, &Cell::new(OBJECT_COST_MAX));
    }

    /// False when the budget is spent: then nothing more is asked.
    fn walk(&self, at: &Cursor<'_>, old: Option<&Json>, budget: &Cell<u64>) -> bool {
        let old = old.filter(|old| !old.is_null());
        let Some(value) = at.value() else { return true };
        let unchanged = !self.own.is_empty() && old == Some(value);
        for rule in &self.own {
            let asked = match (rule.uses_old, rule.validation.optional_old_self) {
                (true, false) => old.is_some(),
                (true, true) => true,
                (false, _) => !unchanged,
            };
            if asked && !self.ask(rule, at, value, old, budget) {
                return false;
            }
        }
        let old_of = |name: &str| old.filter(|_| !self.atomic).and_then(|old| old.get(name));
        for (name, rules) in &self.properties {
            if !rules.walk(&at.field(name), old_of(name), budget) {
                return false;
            }
        }
        if let Some(rules) = &self.values {
            for (name, value) in at.entries().filter(|(name, _)| !self.properties.contains_key(*name)) {
                if !rules.walk(&value, old_of(name), budget) {
                    return false;
                }
            }
        }
        if let Some(rules) = &self.items {
            for item in at.items() {
                let before = item.value().and_then(|item| self.counterpart(item, old));
                if !rules.walk(&item, before, budget) {
                    return false;
                }
            }
        }
        true
    }

    /// The item of the old list that has the same keys.
    fn counterpart<'o>(&self, item: &Json, old: Option<&'o Json>) -> Option<&'o Json> {
        if self.keys.is_empty() {
            return None;
        }
        let same = |other: &&Json| self.keys.iter().all(|key| item.get(key) == other.get(key));
        old?.as_array()?.iter().find(same)
    }

    fn ask(&self, rule: &Rule, at: &Cursor<'_>, value: &Json, old: Option<&Json>, budget: &Cell<u64>) -> bool {
        let invalid = |why: String| at.push(FieldError::invalid(at.path(), self.kind, why));
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                invalid(format!("rule compile error: {why}"));
                return true;
            }
        };
        let old = old.map(|old| Value::of(old, &self.ty));
        let old = match rule.validation.optional_old_self {
            true => old.map_or(Value::Optional(None), Value::some),
            false => old.unwrap_or(Value::Null),
        };
        let values = [Value::of(value, &self.ty), old];
        let limit = budget.get().min(CALL_COST_MAX);
        let outcome = program.run(values.as_slice(), limit);
        budget.set(budget.get().saturating_sub(outcome.cost));
        let shown = rule.shown();
        match outcome.result {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let (detail, spent) = rule.told(&values, budget);
                at.push(rule.error(&at.path(), self.kind, detail));
                if spent {
                    invalid(OUT_OF_BUDGET.into());
                    return false;
                }
            }
            Err(Error::OverBudget) if limit < CALL_COST_MAX => {
                invalid(OUT_OF_BUDGET.into());
                return false;
            }
            Err(error @ Error::OverBudget) => {
                invalid(format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                ));
                return false;
            }
            Err(error @ Error::NoOverload) => invalid(format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            )),
            Err(error) => invalid(format!("{error} evaluating rule: {shown}")),
        }
        true
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
/// Bytes of a message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

impl Rule {
    fn compile(validation: &Validation, ty: &Type) -> Rule {
        let env = environment(ty, validation.optional_old_self);
        let program = Program::compile(&validation.rule, &env).map_err(|issues| issues.to_string());
        let message = match validation.message_expression.trim() {
            "" => None,
            source => Program::compile(source, &env).ok(),
        };
        let uses_old = program.as_ref().is_ok_and(|program| program.uses(OLD_SELF));
        Rule { program, message, validation: validation.clone(), uses_old }
    }

    /// The rule as messages about it name it.
    fn shown(&self) -> &str {
        match self.validation.message.trim() {
            "" => self.validation.rule.trim(),
            message => message,
        }
    }

    /// What the user is told when the rule does not hold, and whether making that spent the budget.
    fn told<'a>(&'a self, values: &[Value<'a>], budget: &Cell<u64>) -> (String, bool) {
        let fixed = || match self.validation.message.trim() {
            "" => format!("failed rule: {}", self.validation.rule.trim()),
            message => message.to_owned(),
        };
        let Some(program) = &self.message else { return (fixed(), false) };
        let limit = budget.get().min(CALL_COST_MAX);
        let outcome = program.run(values, limit);
        budget.set(budget.get().saturating_sub(outcome.cost));
        let spent = matches!(outcome.result, Err(Error::OverBudget)) && limit < CALL_COST_MAX;
        let usable = |text: &str| {
            let text = text.trim();
            (!text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n')).then(|| text.to_owned())
        };
        (outcome.result.ok().and_then(|value| usable(value.as_str()?)).unwrap_or_else(fixed), spent)
    }

    fn error(&self, at: &Path, kind: &str, detail: String) -> FieldError {
        let path =
            parse_field_path(&self.validation.field_path).unwrap_or_default().iter().fold(at.clone(), |path, step| {
                match step {
                    Step::Member(name) => path.child(name),
                    Step::Key(name) => path.key(name),
                }
            });
        match self.validation.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(&path, detail),
            "FieldValueRequired" => FieldError::required(&path, detail),
            "FieldValueDuplicate" => FieldError::duplicate(&path, kind),
            _ => FieldError::invalid(&path, kind, detail),
        }
    }
}

/// A step of a `fieldPath`.
#[derive(Debug, PartialEq)]
enum Step {
    /// `.name`
    Member(String),
    /// `['name']`
    Key(String),
}

/// Reads `.spec.map['a.b']`; none if it is malformed. Items of lists have no path.
fn parse_field_path(text: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("['") {
            let (name, after) = after.split_once("']")?;
            steps.push(Step::Key(name.into()));
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Member(after[..end].into()));
            rest = &after[end..];
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    fn told(schema: &Json, new: Json, old: Option<Json>) -> Vec<String> {
        let errors = Errors::new();
        let schema = Structural::read(schema);
        let root = Cursor::root(&new, &errors);
        schema.validate(&root);
        if let Some(rules) = Rules::compile(&schema) {
            rules.validate(&root, old.as_ref());
        }
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    fn of_spec(spec: Json) -> Json {
        json!({"type": "object", "properties": {"spec": spec}})
    }

    #[test]
    fn rules_hold_or_say_what_does_not() {
        let schema = of_spec(json!({"type": "object", "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "name": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "name is immutable"}, {"rule": "self.size() < 5"}]},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"], "items": {"type": "object",
                "properties": {"id": {"type": "string"}, "n": {"type": "integer", "x-kubernetes-validations": [
                    {"rule": "self >= oldSelf", "message": "n only grows"}]}}}},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}},
        }, "x-kubernetes-validations": [
            {"rule": "!has(self.min) || self.min <= self.max", "messageExpression": "'%d > %d'.format([self.min, self.max])",
             "fieldPath": ".min", "reason": "FieldValueForbidden"}]}));
        for (new, old, want) in [
            (json!({"min": 1, "max": 2, "name": "abc"}), None, vec![]),
            (json!({"min": 3, "max": 2}), None, vec!["spec.min: Forbidden: 3 > 2"]),
            (
                json!({"min": 3}),
                None,
                vec![
                    "spec: Invalid value: \"object\": no such key: max evaluating rule: !has(self.min) || self.min <= self.max",
                ],
            ),
            (
                json!({"name": "abcdef"}),
                None,
                vec!["spec.name: Invalid value: \"string\": failed rule: self.size() < 5"],
            ),
            (
                json!({"name": "b"}),
                Some(json!({"name": "a"})),
                vec!["spec.name: Invalid value: \"string\": name is immutable"],
            ),
            // What was wrong before and is not touched passes.
            (json!({"name": "abcdef"}), Some(json!({"name": "abcdef"})), vec![]),
            (
                json!({"parts": [{"id": "b", "n": 1}, {"id": "a", "n": 1}]}),
                Some(json!({"parts": [{"id": "a", "n": 2}]})),
                vec!["spec.parts[1].n: Invalid value: \"integer\": n only grows"],
            ),
            (
                json!({"map": {"a.b": 0, "c": 1}}),
                None,
                vec!["spec.map[a.b]: Invalid value: \"integer\": failed rule: self > 0"],
            ),
            (
                json!({"min": "x"}),
                None,
                vec![
                    "spec.min: Invalid value: \"string\": spec.min in body must be of type integer: \"string\"",
                    "<nil>: Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
                ],
            ),
        ] {
            let object = |spec: Json| json!({"metadata": {"name": "x"}, "spec": spec});
            assert_eq!(told(&schema, object(new.clone()), old.map(object)), want, "{new}");
        }
    }

    #[test]
    fn budgets_end_a_walk() {
        let schema = of_spec(
            json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [
            {"rule": "self.all(x, self.all(y, x == y))"}]}}),
        );
        let list: Vec<i64> = vec![1; 300];
        let told = told(&schema, json!({"spec": vec![list; 100]}), None);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("running out of cost budget"), "{told:?}");
    }

    #[test]
    fn old_self_may_be_optional() {
        let schema = of_spec(json!({"type": "string", "x-kubernetes-validations": [
            {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true}]}));
        assert_eq!(told(&schema, json!({"spec": "first"}), None).len(), 0);
        assert_eq!(told(&schema, json!({"spec": "other"}), None).len(), 1);
        assert_eq!(told(&schema, json!({"spec": "other"}), Some(json!({"spec": "first"}))).len(), 0);
    }

    #[test]
    fn field_paths_are_read() {
        assert_eq!(
            parse_field_path(".a['b.c'].d"),
            Some(vec![Step::Member("a".into()), Step::Key("b.c".into()), Step::Member("d".into())])
        );
        for bad in ["a", ".", ".a..b", "['a", ".a[0]"] {
            assert_eq!(parse_field_path(bad), None, "{bad}");
        }
    }
}
