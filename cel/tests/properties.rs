//! Properties of all expressions: nothing panics, and what is checked keeps its word.

use kubernetes_cel::types::Type;
use kubernetes_cel::{Env, Error, Program, Value, cost};
use proptest::prelude::*;
use serde_json::json;

fn env() -> Env {
    let list = Type::list(Type::Int);
    Env::new(&[("i", Type::Int), ("s", Type::STRING), ("l", list), ("b", Type::Bool), ("o", Type::Dyn)])
}

/// Expressions, most of them well-typed, out of the pieces of the language.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("i"),
        Just("s"),
        Just("l"),
        Just("b"),
        Just("o.x"),
        Just("1"),
        Just("'a'"),
        Just("true"),
        Just("[1, 2]"),
        Just("{'a': 1}"),
        Just("2u"),
        Just("1.5"),
        Just("duration('1s')"),
        Just("null"),
        Just("x"),
        Just("optional.of(1)"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let binary = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("=="),
            Just("<"),
            Just(">="),
            Just("&&"),
            Just("||"),
            Just("in"),
        ];
        let method = prop_oneof![
            Just("size()"),
            Just("sum()"),
            Just("max()"),
            Just("trim()"),
            Just("split('')"),
            Just("orValue(2)"),
            Just("join('-')"),
            Just("isSorted()"),
            Just("upperAscii()"),
            Just("getHours()"),
            Just("?a"),
            Just("lastIndexOf('é', 1)"),
            Just("substring(1)"),
        ];
        let fold = prop_oneof![Just("all"), Just("exists"), Just("exists_one"), Just("map"), Just("filter")];
        let function =
            prop_oneof![Just("string"), Just("int"), Just("size"), Just("type"), Just("dyn"), Just("!"), Just("-")];
        prop_oneof![
            (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), method).prop_map(|(a, method)| format!("{a}.{method}")),
            (inner.clone(), fold, inner.clone()).prop_map(|(a, fold, b)| format!("{a}.{fold}(x, {b})")),
            (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("[{a}, {b}]")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_too_strange(source in "\\PC{0,60}") {
        let _ = Program::compile(&source, &env());
    }

    #[test]
    fn no_heap_of_tokens_is_too_strange(tokens in prop::collection::vec(prop_oneof![
        Just("a"), Just("."), Just("("), Just(")"), Just("["), Just("]"), Just("{"), Just("}"), Just("?"), Just(":"), Just("!"), Just("-"),
        Just("1"), Just("'s'"), Just(","), Just("in"), Just("has"), Just("all"), Just("&&"), Just("||"), Just("+"), Just(".?"), Just("[?"),
    ], 0..30)) {
        if let Ok(program) = Program::compile(&tokens.join(" "), &env()) {
            cost::estimate(&program);
        }
    }

    #[test]
    fn what_is_checked_keeps_its_word(source in expression(), limit in 0u64..2000) {
        let Ok(program) = Program::compile(&source, &env()) else { return Ok(()) };
        let (list, object) = (json!([3, 1, 2]), json!({"x": {"a": [1, "b", null]}}));
        let list_type = Type::list(Type::Int);
        let values = [Value::Int(3), Value::text("héllo"), Value::of(&list, &list_type), Value::Bool(true), Value::untyped(&object)];
        let estimate = cost::estimate(&program);
        let outcome = program.run(values.as_slice(), limit);
        if let Err(Error::NoOverload) = outcome.result {
            // Only what is of unknown type can meet a function that does not take it.
            let dynamic = ["o.x", "dyn", "null", "optional", "type"].iter().any(|word| source.contains(word))
                || source.contains(".?a");
            prop_assert!(dynamic, "{source}");
        }
        if let Ok(value) = &outcome.result {
            prop_assert!(outcome.cost <= limit);
            prop_assert!(value.fits(program.result()) || matches!(value, Value::Null), "{source}: {value:?} is no {}", program.result());
        }
        // The estimate is upstream's; a run also pays for copies that upstream does not make.
        if estimate < u64::MAX && !source.contains("o.x") {
            let near = estimate.saturating_mul(2).saturating_add(50);
            prop_assert!(outcome.cost <= near || outcome.cost > limit, "{source}: {} > {estimate}", outcome.cost);
        }
    }
}
