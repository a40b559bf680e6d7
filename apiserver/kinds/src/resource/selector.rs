//! The expressions by which devices are chosen (KEP-4381): compiled when they are written, so that a scheduler never meets one that
//! can't work.

use apimachinery::validation::Cursor;
use kubernetes_cel::types::{Field, ObjectType, Size};
use kubernetes_cel::{CALL_COST_MAX, Env, Program, Type, cost};
use std::sync::{Arc, LazyLock};

const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
/// Attributes and capacities of one device.
const ENTRIES_MAX: u64 = 32;
/// Characters of a driver's name or of a domain, and of the name of an attribute.
const NAME_MAX: u64 = 63;

/// What an expression may name: `device`, with the driver it is of and what it has, by domain and name.
static ENV: LazyLock<Env> = LazyLock::new(|| {
    let name = Type::String(Size(NAME_MAX));
    let map = |value: Type| Type::Map(Arc::new((name.clone(), value)), Size(ENTRIES_MAX));
    let quantity = Type::named("quantity").unwrap_or(Type::Dyn);
    let fields = [
        ("driver", name.clone()),
        ("attributes", map(map(Type::Dyn))),
        ("capacity", map(map(quantity))),
        ("allowMultipleAllocations", Type::Bool),
    ];
    let field = |(member, ty): (&str, Type)| (member.to_owned(), Field { member: member.to_owned(), ty });
    let device = ObjectType { name: "DRADevice".into(), fields: fields.map(field).into(), open: false };
    Env::new(&[("device", Type::Object(Arc::new(device)))])
});

/// Checks a list of selectors.
pub fn selectors(list: &Cursor<'_>) {
    list.items_max(SELECTORS_MAX);
    for selector in list.items() {
        let cel = selector.field("cel");
        if !cel.exists() {
            cel.missing("");
        } else {
            expression(&cel.field("expression"));
        }
    }
}

fn expression(at: &Cursor<'_>) {
    if at.str().len() > EXPRESSION_BYTES_MAX {
        return at.too_long(EXPRESSION_BYTES_MAX);
    }
    match Program::compile(at.str(), &ENV) {
        Err(issues) => at.invalid(format!("compilation failed: {issues}")),
        Ok(program) if !matches!(program.result(), Type::Bool | Type::Dyn) => {
            at.invalid(format!("must evaluate to bool or the unknown type, not {}", program.result()));
        }
        Ok(program) if cost::estimate(&program) > CALL_COST_MAX => at.forbid("too complex, exceeds cost limit"),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::validation::Errors;
    use serde_json::json;

    #[test]
    fn expressions_are_compiled() {
        let many = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, \
            device.attributes.all(e, a + b + c + d != e)))))";
        for (expression, want) in [
            ("device.driver == 'gpu.example.com'", None),
            ("device.attributes['gpu.example.com'].model == 'a' && 'x' in device.attributes['gpu.example.com']", None),
            ("device.capacity['gpu.example.com'].memory.compareTo(quantity('10Gi')) >= 0", None),
            ("device.attributes['gpu.example.com'].shared", None),
            ("device.attributes['a.com'].?version.orValue(semver('0.0.1')).isGreaterThan(semver('0.0.1'))", None),
            ("device.attributes['a.com'].exists(k, k == 'x') && cel.bind(x, true, x)", Some("compilation failed")),
            ("device.driver == ", Some("compilation failed")),
            ("device.name == 'x'", Some("undefined field 'name'")),
            ("device.driver", Some("must evaluate to bool or the unknown type, not string")),
            (many, Some("too complex, exceeds cost limit")),
            ("", Some("compilation failed")),
        ] {
            let list = json!([{"cel": {"expression": expression}}]);
            let errors = Errors::new();
            selectors(&Cursor::root(&list, &errors));
            let told: Vec<String> = errors.into_vec().iter().map(ToString::to_string).collect();
            match want {
                None => assert_eq!(told, Vec::<String>::new(), "{expression}"),
                Some(want) => assert!(told.len() == 1 && told[0].contains(want), "{expression}: {told:?}"),
            }
        }
    }
}
