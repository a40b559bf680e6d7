//! `docs/ARCHITECTURE.md` says what each crate may import. Here the manifests and the sources are held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The texts between quotes of an array in a manifest.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('"').skip(1).step_by(2).map(str::to_owned)
}

fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("members = [").unwrap();
    quoted(rest.split_once(']').unwrap().0).collect()
}

/// The folders of this workspace's crates by the names that manifests have for them.
fn folders() -> BTreeMap<String, String> {
    let manifest = read("Cargo.toml");
    let dependencies = manifest.split_once("[workspace.dependencies]").unwrap().1;
    let row = |line: &str| {
        let (name, value) = line.split_once(" = ")?;
        let folder = value.split_once("path = \"")?.1.split('"').next()?;
        Some((name.to_owned(), folder.to_owned()))
    };
    dependencies.lines().filter_map(row).collect()
}

/// What a crate imports of this workspace when it is built, not when it is tested.
fn imports(member: &str, folders: &BTreeMap<String, String>) -> BTreeSet<String> {
    let manifest = read(format!("{member}/Cargo.toml"));
    let (_, rest) = manifest.split_once("\n[dependencies]").unwrap_or_default();
    let section = rest.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| folders.get(line.split(['.', ' ']).next()?).cloned()).collect()
}

/// The rows of the page: a crate and what it may import, with `all of X/` written out.
fn allowed(members: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/ARCHITECTURE.md");
    let table = page.split_once("| crate | what | imports |").unwrap().1;
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, imports] = cells[..] else { panic!("not a row: {line}") };
        let mut all: BTreeSet<String> = imports.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        for folder in all.clone().iter().filter(|name| name.ends_with('/')) {
            all.remove(folder);
            all.extend(members.iter().filter(|member| member.starts_with(folder)).cloned());
        }
        (name.trim_matches('`').to_owned(), all)
    };
    table.lines().skip(2).take_while(|line| line.starts_with('|')).map(row).collect()
}

#[test]
fn each_crate_imports_what_its_row_names_and_nothing_else() {
    let (members, folders) = (members(), folders());
    let allowed = allowed(&members);
    for member in &members {
        let row = allowed.get(member).unwrap_or_else(|| panic!("{member} has no row in docs/ARCHITECTURE.md"));
        let beyond: Vec<_> = imports(member, &folders).difference(row).cloned().collect();
        assert!(beyond.is_empty(), "{member} imports {beyond:?}, which its row in docs/ARCHITECTURE.md does not name");
    }
    let gone: Vec<_> = allowed.keys().filter(|name| !members.contains(name)).collect();
    assert!(gone.is_empty(), "rows of docs/ARCHITECTURE.md without a crate: {gone:?}");
}

/// A module by the names that lead to it; none for the crate's root.
type Module = Vec<String>;

/// The modules of a crate, each with the text of its file up to its tests and without comments.
fn modules(source: &Path) -> BTreeMap<Module, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![(source.to_path_buf(), Module::new())];
    while let Some((folder, module)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                folders.push((path, [module.clone(), vec![name]].concat()));
            } else if let Some(stem) = name.strip_suffix(".rs") {
                let own = if matches!(stem, "mod" | "lib" | "main") { vec![] } else { vec![stem.to_owned()] };
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
                all.entry([module.clone(), own].concat()).or_insert_with(String::new).push_str(&code.join("\n"));
            }
        }
    }
    all
}

/// The paths that a `use` or an expression leads to, `a::{b, c::d}` written out, from where `crate::` or `super::` has led.
fn paths(from: &[String], text: &str, found: &mut Vec<Module>) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let mut path = from.to_vec();
    path.extend(text[..end].split("::").filter(|name| !name.is_empty() && *name != "self").map(str::to_owned));
    let Some(group) = text[end..].strip_prefix('{') else { return found.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                paths(&path, group[start..at].trim(), found);
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// The modules that the text of a module names.
fn uses(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::").filter(|(at, _)| !text[..*at].ends_with(['$', '_'])) {
        paths(&[], &text[at + "crate::".len()..], &mut found);
    }
    for (at, _) in text.match_indices("super::").filter(|(at, _)| !text[..*at].ends_with("::")) {
        let rest = &text[at..];
        let up = rest.split("::").take_while(|name| *name == "super").count();
        let base = &module[..module.len().saturating_sub(up)];
        paths(base, &rest[up * "super::".len()..], &mut found);
    }
    let known = |mut path: Module| {
        while !all.contains_key(&path) {
            path.pop()?;
        }
        Some(path)
    };
    found.into_iter().filter_map(known).filter(|path| path != module).collect()
}

/// The modules that lead back to `start`, itself included if there are any.
fn circle(start: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let reach = |start: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(module) = open.pop() {
            open.extend(edges[&module].iter().filter(|next| seen.insert((*next).clone())).cloned());
        }
        seen
    };
    reach(start).into_iter().filter(|other| reach(other).contains(start)).collect()
}

/// A folder and what is below it may be one thing in several files. The crate's root may know its own modules and hand them what they
/// share, so it does not count where all others of a circle only name the root.
fn is_one_folder(circle: &BTreeSet<Module>) -> bool {
    let below: Vec<&Module> = circle.iter().filter(|module| !module.is_empty()).collect();
    below.iter().all(|module| module[0] == below[0][0])
}

#[test]
fn no_modules_import_each_other_but_within_one_folder() {
    let mut wrong = BTreeSet::new();
    for member in members() {
        let all = modules(&root().join(&member).join("src"));
        let mut edges: BTreeMap<Module, BTreeSet<Module>> =
            all.iter().map(|(module, text)| (module.clone(), uses(module, text, &all))).collect();
        // What the root declares and hands on is no import of theirs.
        edges.insert(Module::new(), BTreeSet::new());
        for module in edges.keys().cloned().collect::<Vec<_>>() {
            let circle = circle(&module, &edges);
            if !is_one_folder(&circle) {
                let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
                wrong.insert(format!("{member}: {}", names.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "modules that import each other:\n{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_a_module_names_is_found() {
    let module = |path: &str| path.split("::").filter(|n| !n.is_empty()).map(str::to_owned).collect::<Module>();
    let all: BTreeMap<Module, String> =
        ["", "a", "a::b", "c"].map(|path| (module(path), String::new())).into_iter().collect();
    for (of, text, want) in [
        ("c", "use crate::a::{b::Thing, Other};", vec!["a", "a::b"]),
        ("a::b", "use super::super::c;\nuse super::Thing;", vec!["a", "c"]),
        ("a", "fn f() { crate::c::f() }", vec!["c"]),
        ("a", "use std::c::d;", vec![]),
    ] {
        let found = uses(&module(of), text, &all);
        assert_eq!(found, want.into_iter().map(module).collect(), "{text}");
    }
}

/// Paths between backquotes in a page: those that begin with a folder at the top of the project.
fn named_paths(page: &str) -> impl Iterator<Item = &str> {
    let tops: Vec<String> = std::fs::read_dir(root())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let quoted = page.split('`').skip(1).step_by(2).map(|text| text.split("::").next().unwrap_or_default());
    quoted.filter(move |text| {
        let is_path = !text.contains([' ', '<', '*', '\n']);
        is_path && text.split_once('/').is_some_and(|(top, _)| tops.iter().any(|known| known == top))
    })
}

#[test]
fn files_that_the_pages_name_exist() {
    for name in ["docs/ARCHITECTURE.md", "docs/READING.md", "CONTRIBUTING.md"] {
        let page = read(name);
        let missing: Vec<&str> = named_paths(&page).filter(|path| !root().join(path).exists()).collect();
        assert!(missing.is_empty(), "{name} names what is not there: {missing:?}");
    }
}
