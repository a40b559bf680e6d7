//! Conditions on requests (`matchConditions`): a webhook or policy is asked only where all of them are true.

use super::policy::environment::{Access, Input, Scope};
use apimachinery::Value as Json;
use kubernetes_cel::{Env, Error, MATCH_CONDITIONS_COST_MAX, Program, Type, Value};
use registry::expressions::admission_environment;

/// Conditions, compiled.
#[derive(Debug)]
pub struct MatchConditions {
    env: Env,
    list: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    expression: String,
    program: Result<Program, String>,
}

/// Compiles a condition, or says why it is none, as upstream's `compilation failed: …`.
pub fn compile(source: &str, env: &Env) -> Result<Program, String> {
    match Program::compile(source, env) {
        Ok(program) if matches!(program.result(), Type::Bool | Type::Dyn) => Ok(program),
        Ok(_) => Err("must evaluate to bool".into()),
        Err(issues) => Err(format!("compilation failed: {issues}")),
    }
}

impl MatchConditions {
    /// Reads a list of `{name, expression}`; `params` may be named where a policy has a kind of them. What does not compile fails when
    /// it is asked.
    pub fn compile(list: &Json, params: bool) -> MatchConditions {
        let env = admission_environment(params);
        let condition = |condition: &Json| {
            let expression = condition["expression"].as_str().unwrap_or("").to_owned();
            Condition { program: compile(&expression, &env), expression }
        };
        let list = list.as_array().into_iter().flatten().map(condition).collect();
        MatchConditions { env, list }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether all conditions are true of a write. One that is false decides, whatever fails beside it.
    ///
    /// # Errors
    /// What failed, where no condition is false. The failure policy says what becomes of that: with `Fail` the write is refused, with
    /// `Ignore` the conditions do not hold.
    pub fn matches(&self, input: &Input, params: &Json, access: &Access<'_>) -> Result<bool, String> {
        if self.list.is_empty() {
            return Ok(true);
        }
        let scope = Scope::new(input, params, &self.env, &[], access, MATCH_CONDITIONS_COST_MAX);
        let mut failed = Vec::new();
        for condition in &self.list {
            let result = match &condition.program {
                Ok(program) => scope.run(program).map_err(|error| error.clone()),
                Err(why) => {
                    failed.push(format!("compilation error: {why}"));
                    continue;
                }
            };
            match result {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => failed.push(format!("expression '{}' resulted in error: not a bool", condition.expression)),
                Err(Error::OverBudget) => {
                    failed.push(
                        "validation failed due to running out of cost budget, no further validation rules will be run"
                            .into(),
                    );
                    break;
                }
                Err(error) => failed.push(format!("expression '{}' resulted in error: {error}", condition.expression)),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}
