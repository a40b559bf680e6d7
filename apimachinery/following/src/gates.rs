//! Feature gates: ours, and those of upstream's list, which tells the history of each.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

const OURS: &str = include_str!("../../../component-base/src/feature_gates.txt");

/// A minor release, `1.36`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor(pub u32, pub u32);

impl FromStr for Minor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Minor> {
        let number = |part: Option<&str>| part?.parse().ok();
        let mut parts = text.trim_start_matches('v').splitn(3, '.');
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => Ok(Minor(major, minor)),
            _ => bail!("{text:?} is no release: write one like 1.36"),
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What a gate is in one minor, as a line of `feature_gates.txt` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// `alpha`, `beta`, `ga` or `deprecated`.
    pub stage: String,
    pub on: bool,
    /// The default is the only value.
    pub locked: bool,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let on = if self.on { "on" } else { "off" };
        write!(f, "{} {on}{}", self.stage, if self.locked { " locked" } else { "" })
    }
}

/// All gates of a minor by name.
pub type Gates = BTreeMap<String, Gate>;

/// The gates of `feature_gates.txt`.
pub fn ours() -> Gates {
    let rows = OURS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (name, stage, default) = (words.next()?, words.next()?, words.next()?);
        let gate = Gate { stage: stage.into(), on: default == "on", locked: words.any(|flag| flag == "locked") };
        Some((name.to_owned(), gate))
    });
    rows.collect()
}

/// One gate of `versioned_feature_list.yaml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    versioned_specs: Vec<Spec>,
}

/// What a gate is from one minor on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    default: bool,
    #[serde(default)]
    lock_to_default: bool,
    /// Empty or `GA` for what is stable.
    #[serde(default)]
    pre_release: String,
    version: String,
}

/// Reads upstream's list, as of `minor` or else of the latest minor in it.
///
/// # Errors
/// A list of another form, and a minor that is not one.
pub fn listed(text: &str, minor: Option<Minor>) -> Result<(Minor, Gates)> {
    let list: Vec<Listed> = serde_yaml_ng::from_str(text).context(
        "the list of feature gates has another form than upstream's: \
         give test/compatibility_lifecycle/reference/versioned_feature_list.yaml of a release",
    )?;
    let mut histories = Vec::new();
    for gate in list {
        let mut history = Vec::new();
        for spec in gate.versioned_specs {
            let since: Minor = spec.version.parse().with_context(|| format!("feature gate {}", gate.name))?;
            history.push((since, spec));
        }
        history.sort_by_key(|(since, _)| *since);
        histories.push((gate.name, history));
    }
    let latest = histories.iter().flat_map(|(_, history)| history).map(|(since, _)| *since).max();
    let Some(minor) = minor.or(latest) else { bail!("the list of feature gates is empty: download it again") };
    let now = histories.into_iter().filter_map(|(name, history)| {
        let (_, spec) = history.into_iter().rfind(|(since, _)| *since <= minor)?;
        let stage = if spec.pre_release.is_empty() { "ga".into() } else { spec.pre_release.to_lowercase() };
        Some((name, Gate { stage, on: spec.default, locked: spec.lock_to_default }))
    });
    let gates = now.filter(|(name, _)| !["AllAlpha", "AllBeta"].contains(&&**name)).collect();
    Ok((minor, gates))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
- name: Trains
  versionedSpecs:
  - {default: false, lockToDefault: false, preRelease: Alpha, version: "1.34"}
  - {default: true, lockToDefault: false, preRelease: Beta, version: "1.36"}
- name: Rails
  versionedSpecs:
  - {default: true, lockToDefault: true, preRelease: GA, version: "1.37"}
- name: AllAlpha
  versionedSpecs:
  - {default: false, lockToDefault: false, preRelease: Alpha, version: "0.0"}
"#;

    #[test]
    fn a_gate_is_what_its_history_says_of_the_minor() {
        let told = |minor: Option<&str>| {
            let (minor, gates) = listed(LIST, minor.map(|text| text.parse().unwrap())).unwrap();
            format!("{minor} {:?}", gates.iter().map(|(name, gate)| format!("{name} {gate}")).collect::<Vec<_>>())
        };
        assert_eq!(told(None), r#"1.37 ["Rails ga on locked", "Trains beta on"]"#);
        assert_eq!(told(Some("v1.35.2")), r#"1.35 ["Trains alpha off"]"#);
        assert_eq!(told(Some("1.33")), "1.33 []");
    }

    #[test]
    fn another_form_is_refused_with_what_to_give_instead() {
        assert!(listed("a: b", None).unwrap_err().to_string().contains("versioned_feature_list.yaml"));
        assert!(listed("[]", None).unwrap_err().to_string().contains("empty"));
        assert!("next".parse::<Minor>().is_err());
    }

    #[test]
    fn ours_are_read() {
        assert!(ours().len() > 200);
        assert_eq!(ours()["ContainerStopSignals"].to_string(), "alpha off");
    }
}
