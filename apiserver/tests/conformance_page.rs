//! The page of conformance names tests. Each must be there.

use std::path::Path;

/// Every `file.rs::function` between backquotes in a text.
fn named(page: &str) -> Vec<(&str, &str)> {
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once(".rs::").map(|_| code.split_once("::")).flatten())
        .collect()
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/CONFORMANCE.md")).unwrap();
    let tests = named(&page);
    assert!(tests.len() >= 95, "a row without a test?");
    let missing: Vec<String> = tests
        .into_iter()
        .filter(|(file, function)| {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let head = format!("fn {function}()");
            // The attribute is part of it: a function that is not run shows nothing.
            !text.split(&head).next().is_some_and(|before| {
                before.len() < text.len() && before.trim_end_matches("async ").trim_end().ends_with("test]")
            })
        })
        .map(|(file, function)| format!("{file}::{function}"))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
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
