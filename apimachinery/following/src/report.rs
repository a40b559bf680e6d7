//! What moving takes, in sections, for people and for programs.

use serde::Serialize;
use std::fmt::{self, Write};

/// All sections.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub sections: Vec<Section>,
}

/// One sort of things: what came, what went and what is another.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    pub title: &'static str,
    /// The table to edit.
    pub table: &'static str,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
    /// Why there was nothing to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<&'static str>,
}

impl Section {
    pub fn new(title: &'static str, table: &'static str) -> Section {
        Section { title, table, ..Section::default() }
    }

    /// How many things there are to do.
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }

    fn sort(&mut self) {
        self.added.sort();
        self.removed.sort();
        self.changed.sort();
    }
}

impl Report {
    /// Appends a section, sorted.
    pub fn push(&mut self, mut section: Section) {
        section.sort();
        self.sections.push(section);
    }

    /// How many things there are to do in all.
    pub fn len(&self) -> usize {
        self.sections.iter().map(Section::len).sum()
    }

    /// The report as JSON, with the number of things in each section.
    pub fn json(&self) -> serde_json::Value {
        let counts = self.sections.iter().map(|section| (section.title.to_owned(), section.len().into()));
        let counts: serde_json::Map<String, serde_json::Value> = counts.collect();
        serde_json::json!({"total": self.len(), "counts": counts, "sections": self.sections})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for section in &self.sections {
            section.write(f)?;
        }
        match self.len() {
            0 => writeln!(f, "Nothing to do."),
            1 => writeln!(f, "One thing to do."),
            all => writeln!(f, "{all} things to do."),
        }
    }
}

impl Section {
    fn write(&self, f: &mut impl Write) -> fmt::Result {
        let Section { title, table, added, removed, changed, not_compared } = self;
        if self.len() > 0 {
            let (a, r, c) = (added.len(), removed.len(), changed.len());
            writeln!(f, "{title}: {a} added, {r} removed, {c} changed ({table})")?;
        }
        if let Some(why) = not_compared {
            writeln!(f, "{title}: not compared: {why}")?;
        }
        for (sign, lines) in [('+', added), ('-', removed), ('~', changed)] {
            for line in lines {
                writeln!(f, "  {sign} {line}")?;
            }
        }
        if self.len() > 0 || not_compared.is_some() { writeln!(f) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_sorted_and_counted() {
        let mut report = Report::default();
        let mut section = Section::new("Toys", "toys.txt");
        section.added = vec!["b".into(), "a".into()];
        section.changed = vec!["c".into()];
        report.push(section);
        report.push(Section::new("Games", "games.txt"));
        report.push(Section { not_compared: Some("nobody tells"), ..Section::new("Rules", "rules.txt") });
        let expected = "Toys: 2 added, 0 removed, 1 changed (toys.txt)\n  + a\n  + b\n  ~ c\n\n\
                        Rules: not compared: nobody tells\n\n3 things to do.\n";
        assert_eq!(report.to_string(), expected);
        assert_eq!(report.json()["counts"], serde_json::json!({"Toys": 3, "Games": 0, "Rules": 0}));
    }
}
