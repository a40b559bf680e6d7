//! `allOf`, `anyOf`, `oneOf` and `not`: rules on a value that are schemas themselves. They say nothing of its type and fill in
//! nothing; structural schemas only let them validate_value.

use super::Structural;
use crate::validation::{Cursor, Errors, FieldError};
use serde_json::Value;

/// The junctors of one place.
#[derive(Clone, Debug, Default)]
pub struct Junctors {
    all_of: Vec<Structural>,
    any_of: Vec<Structural>,
    one_of: Vec<Structural>,
    not: Option<Box<Structural>>,
}

impl Junctors {
    /// None if the schema has none.
    pub fn read(schema: &Value) -> Option<Box<Junctors>> {
        let list = |name: &str| -> Vec<Structural> {
            schema[name].as_array().into_iter().flatten().map(Structural::read).collect()
        };
        let (all_of, any_of, one_of) = (list("allOf"), list("anyOf"), list("oneOf"));
        let not = schema["not"].is_object().then(|| Box::new(Structural::read(&schema["not"])));
        if all_of.is_empty() && any_of.is_empty() && one_of.is_empty() && not.is_none() {
            return None;
        }
        Some(Box::new(Junctors { all_of, any_of, one_of, not }))
    }

    pub fn validate_value(&self, at: &Cursor<'_>) {
        let path = at.path().as_str().to_owned();
        let problems = |schema: &Structural| -> Vec<FieldError> {
            let errors = Errors::new();
            schema.validate_value(&Cursor::at(at.value(), at.path().clone(), &errors));
            errors.into_vec()
        };
        let wrong = |why: &str| at.invalid_value(at.value().cloned().unwrap_or_default(), format!("{path:?} {why}"));
        let all: Vec<FieldError> = self.all_of.iter().flat_map(problems).collect();
        if !all.is_empty() {
            at.errors().extend(all);
            wrong("must validate all the schemas (allOf)");
        }
        if !self.any_of.is_empty() {
            let told: Vec<_> = self.any_of.iter().map(problems).collect();
            if told.iter().all(|t| !t.is_empty()) {
                wrong("must validate at least one schema (anyOf)");
                // What the closest of them wants helps most.
                at.errors().extend(told.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
        }
        if !self.one_of.is_empty() {
            let told: Vec<_> = self.one_of.iter().map(problems).collect();
            let fitting = told.iter().filter(|t| t.is_empty()).count();
            if fitting != 1 {
                wrong(&match fitting {
                    0 => "must validate one and only one schema (oneOf). Found none valid".to_owned(),
                    n => format!("must validate one and only one schema (oneOf). Found {n} valid alternatives"),
                });
            }
            if fitting == 0 {
                at.errors().extend(told.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
        }
        if self.not.as_ref().is_some_and(|schema| problems(schema).is_empty()) {
            wrong("must not validate the schema (not)");
        }
    }
}
