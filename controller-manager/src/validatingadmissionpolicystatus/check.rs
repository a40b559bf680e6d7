//! The expressions of a policy, held against the types that it is about. Nothing here is run: what can go wrong with the values
//! shows when the policy checks a write.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicySpec;
use kubernetes_cel::{Env, Program, Type, Variable, admission};
use serde_json::{Value, json};

use super::kinds::Kind;

/// `{fieldRef, warning}` of each expression that does not compile for some of the types.
pub fn check(spec: &ValidatingAdmissionPolicySpec, types: &[(Kind, Type)], params: Option<&Type>) -> Vec<Value> {
    let environments: Vec<(&Kind, Env)> =
        types.iter().map(|(kind, ty)| (kind, environment(spec, ty.clone(), params.cloned()))).collect();
    let mut warnings = Vec::new();
    for (index, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().filter(|expression| !expression.is_empty());
        let expressions = [("expression", Some(validation.expression.as_str())), ("messageExpression", message)];
        for (member, expression) in expressions {
            let Some(expression) = expression else { continue };
            let problem = |(kind, env): &(&Kind, Env)| {
                let issues = Program::compile(expression, env).err()?;
                Some(format!("{kind}: {issues}\n"))
            };
            let problems: Vec<String> = environments.iter().filter_map(problem).collect();
            if !problems.is_empty() {
                let field = format!("spec.validations[{index}].{member}");
                warnings.push(json!({"fieldRef": field, "warning": problems.join("\n")}));
            }
        }
    }
    warnings
}

/// What the validations may name, for objects of one type. A variable that does not compile is of no known type: that is told where it is
/// asked for.
fn environment(spec: &ValidatingAdmissionPolicySpec, object: Type, params: Option<Type>) -> Env {
    let mut env = admission::environment(object, params);
    for variable in spec.variables.iter().flatten() {
        let ty = Program::compile(&variable.expression, &env).map_or(Type::Dyn, |program| program.result().clone());
        env.variables.push(Variable { name: format!("variables.{}", variable.name), ty });
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes_cel::openapi;

    #[test]
    fn expressions_that_do_not_fit_are_told_with_their_kind() {
        let document = json!({"components": {"schemas": {}}});
        let schema = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
        let kind = |kind: &str| Kind { group: "apps".into(), version: "v1".into(), kind: kind.into() };
        let types = [
            (kind("Deployment"), openapi::declare(&document, &schema)),
            (
                kind("Other"),
                openapi::declare(&document, &json!({"type": "object", "properties": {"x": {"type": "string"}}})),
            ),
        ];
        let spec = |validation: Value| -> ValidatingAdmissionPolicySpec {
            let variables = json!([{"name": "n", "expression": "object.replicas"}]);
            serde_json::from_value(json!({"validations": [{"expression": "true"}, validation], "variables": variables}))
                .unwrap()
        };
        for (validation, field, kinds) in [
            (json!({"expression": "object != null"}), "", 0),
            (json!({"expression": "object.replicas > 1"}), "spec.validations[1].expression", 1),
            (json!({"expression": "object.size > 1"}), "spec.validations[1].expression", 2),
            (
                json!({"expression": "true", "messageExpression": "string(object.replicas)"}),
                "spec.validations[1].messageExpression",
                1,
            ),
            (json!({"expression": "variables.n == 'a'"}), "spec.validations[1].expression", 1),
        ] {
            let warnings = check(&spec(validation.clone()), &types, None);
            let warning = warnings.first().cloned().unwrap_or_default();
            assert_eq!(warning["fieldRef"].as_str().unwrap_or_default(), field, "{validation}");
            let told = warning["warning"].as_str().unwrap_or_default();
            assert_eq!(told.matches("apps/v1, Kind=").count(), kinds, "{told}");
        }
    }
}
