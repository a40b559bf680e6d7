//! The page of conformance names tests. Each must be there.

use std::path::Path;

/// Every `file.rs::function` between backquotes in a text.
fn named(page: &str) -> Vec<(&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|code| code.split_once("::").filter(|(file, _)| file.ends_with(".rs"))).collect()
}

/// Whether the text of a file has a test of that name: a function with the attribute, for one that is not run shows nothing.
fn has_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}()")) else { return false };
    before.trim_end_matches("async ").trim_end().ends_with("test]")
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/CONFORMANCE.md")).unwrap();
    let tests = named(&page);
    assert!(tests.len() >= 95, "a row without a test?");
    let text = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let missing: Vec<_> = tests.into_iter().filter(|(file, name)| !has_test(&text(file), name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn rows_have_a_state_and_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/CONFORMANCE.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| behaviour"));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{row}");
        assert!(cells[1].contains("::") || cells[2] != "holds", "{row}");
    }
}
