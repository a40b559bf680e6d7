//! Laws that hold for whatever input.

use apimachinery::apply::{FieldSet, PathElement, compare, extract, fieldsv1, merge};
use apimachinery::patch::{merge_patch, strategic_merge_patch};
use apimachinery::quantity::Quantity;
use apimachinery::schema::{Node, Schema, Shape};
use apimachinery::selector::{FieldSelector, LabelSelector};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

fn with_pod_spec<T>(run: impl FnOnce(Node<'_>) -> T) -> T {
    let schema = Schema::builtin();
    let shape = Shape::Struct(schema.by_name("k8s.io.api.core.v1.PodSpec").unwrap().id);
    run(Node::root(schema, &shape))
}

/// Texts that are quantities, small enough that sums of any two keep every digit.
fn quantity() -> impl Strategy<Value = String> {
    let suffix = prop::sample::select(vec![
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2",
    ]);
    ("[+-]?[0-9]{1,8}(\\.[0-9]{0,12})?", suffix).prop_map(|(number, suffix)| format!("{number}{suffix}"))
}

/// Specs of pods with few names, so that they meet.
fn pod_spec() -> impl Strategy<Value = Value> {
    let container = ("[ab]", vec("[xyz]", 0..3)).prop_map(|(image, args)| json!({"image": image, "args": args}));
    let labels = || btree_map("[abc]", "[12]", 0..3);
    (btree_map("[a-e]", container, 0..4), labels(), any::<bool>()).prop_map(|(containers, selector, network)| {
        let named = containers.into_iter().map(|(name, mut container)| {
            container["name"] = name.into();
            container
        });
        json!({"containers": named.collect::<Vec<_>>(), "nodeSelector": selector, "hostNetwork": network})
    })
}

fn element() -> impl Strategy<Value = PathElement> {
    prop_oneof![
        "[a-d.:]{1,3}".prop_map(|name| PathElement::field(&name)),
        ("[a-c]", any::<i8>()).prop_map(|(key, value)| PathElement::Key([(key.into(), value.into())].into())),
        "[a-c\"]{0,2}".prop_map(|text| PathElement::Value(text.into())),
        (0..5i64).prop_map(PathElement::Index),
    ]
}

fn field_set() -> impl Strategy<Value = FieldSet> {
    vec(vec(element(), 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::new();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

/// Any JSON value.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-d]", inner, 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_canonical_form_of_a_quantity_is_a_fixed_point(text in quantity()) {
        let parsed = Quantity::parse(&text).unwrap();
        let canonical = parsed.to_string();
        let again = Quantity::parse(&canonical).unwrap();
        prop_assert_eq!(&parsed, &again);
        prop_assert_eq!(again.to_string(), canonical);
    }

    #[test]
    fn quantities_add_and_compare_as_numbers(a in quantity(), b in quantity()) {
        let (a, b) = (Quantity::parse(&a).unwrap(), Quantity::parse(&b).unwrap());
        prop_assert_eq!(a.add(&b), b.add(&a));
        prop_assert_eq!(a.add(&b).sub(&b), a.clone());
        prop_assert_eq!(a.cmp(&b), a.sub(&b).sign().cmp(&0));
    }

    #[test]
    fn no_text_makes_a_parser_fail_badly(text in "\\PC{0,40}") {
        let _ = Quantity::parse(&text);
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
        let _ = apimachinery::time::canonical_time(&text);
        let _ = PathElement::parse(&text);
    }

    #[test]
    fn selectors_are_read_as_they_are_shown(
        key in "[a-z]([a-z0-9.-]{0,8}[a-z0-9])?",
        values in btree_set("[a-zA-Z0-9]{0,4}", 1..4),
        operator in prop::sample::select(vec!["in", "notin", "=", "!=", "exists", "!"]),
    ) {
        let first = values.first().unwrap();
        let list = values.iter().cloned().collect::<Vec<_>>().join(",");
        let text = match operator {
            "in" | "notin" => format!("{key} {operator} ({list})"),
            "exists" => key.clone(),
            "!" => format!("!{key}"),
            _ => format!("{key}{operator}{first}"),
        };
        let selector = LabelSelector::parse(&text).unwrap();
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn a_merge_patch_applied_twice_is_applied_once(mut document in json(), patch in json()) {
        merge_patch(&mut document, &patch);
        let once = document.clone();
        merge_patch(&mut document, &patch);
        prop_assert_eq!(document, once);
    }

    #[test]
    fn a_strategic_patch_leaves_what_it_does_not_name(object in pod_spec(), patch in pod_spec()) {
        let mut patched = object.clone();
        with_pod_spec(|node| strategic_merge_patch(&mut patched, patch.clone(), node)).unwrap();
        let names = |v: &Value| v["containers"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect::<Vec<_>>();
        for name in names(&object).iter().chain(&names(&patch)) {
            prop_assert_eq!(names(&patched).iter().filter(|n| *n == name).count(), 1);
        }
        for (key, value) in patch["nodeSelector"].as_object().unwrap() {
            prop_assert_eq!(&patched["nodeSelector"][key], value);
        }
        let once = patched.clone();
        with_pod_spec(|node| strategic_merge_patch(&mut patched, patch, node)).unwrap();
        prop_assert_eq!(patched, once);
    }

    #[test]
    fn sets_of_fields_are_read_as_they_are_written(set in field_set()) {
        prop_assert_eq!(fieldsv1::decode(&fieldsv1::encode(&set)).unwrap(), set);
    }

    #[test]
    fn sets_of_fields_obey_the_laws_of_sets(a in field_set(), b in field_set()) {
        let (both, only_a, only_b) = (a.intersection(&b), a.difference(&b), b.difference(&a));
        prop_assert_eq!(both.union(&only_a), a.clone());
        prop_assert_eq!(only_a.union(&both).union(&only_b), a.union(&b));
        prop_assert!(only_a.intersection(&b).is_empty());
        let mut pruned = a.clone();
        pruned.prune(&b);
        prop_assert!(pruned.difference(&only_a).is_empty());
        for path in a.paths() {
            prop_assert!(a.has(&path));
        }
    }

    #[test]
    fn a_comparison_with_itself_finds_nothing(a in pod_spec(), b in pod_spec()) {
        with_pod_spec(|node| {
            prop_assert!(compare::compare(&a, &a, node) == compare::Comparison::default());
            // What is added in one direction is removed in the other.
            let (there, back) = (compare::compare(&a, &b, node), compare::compare(&b, &a, node));
            prop_assert_eq!((&there.added, &there.modified, &there.removed), (&back.removed, &back.modified, &back.added));
            Ok(())
        })?;
    }

    #[test]
    fn merging_keeps_what_is_applied(live in pod_spec(), config in pod_spec()) {
        with_pod_spec(|node| {
            let merged = merge::merge(&live, &config, node);
            let missing = extract::fields(&config, node).difference(&extract::fields(&merged, node));
            prop_assert!(missing.paths().iter().all(|path| path.len() == 1), "{:?}", missing);
            prop_assert_eq!(merge::merge(&merged, &config, node), merged);
            Ok(())
        })?;
    }
}
