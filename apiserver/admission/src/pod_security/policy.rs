//! What a namespace's labels, or else the server's defaults, ask for.

use super::checks::{self, CHECKS, Level};
use apimachinery::Value;

pub const PREFIX: &str = "pod-security.kubernetes.io/";
/// Versions of the policy are those of Kubernetes; later ones than ours are taken as ours.
const LATEST: u32 = 35;

/// What is asked for in one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub level: Level,
    /// The minor version.
    version: u32,
    /// As it was written: `latest`, `v1.30`.
    shown: String,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { level: Level::Privileged, version: LATEST, shown: "latest".to_owned() }
    }
}

/// The checks that a pod fails: what is wrong, and where.
pub struct Violations(Vec<(&'static str, String)>);

impl Violations {
    /// `host namespaces, runAsNonRoot != true`.
    pub fn reasons(&self) -> String {
        self.0.iter().map(|(what, _)| *what).collect::<Vec<_>>().join(", ")
    }

    /// `host namespaces (hostNetwork=true), …`.
    fn details(&self) -> String {
        self.0.iter().map(|(what, detail)| format!("{what} ({detail})")).collect::<Vec<_>>().join(", ")
    }
}

impl Policy {
    /// `restricted:latest`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.level.name(), self.shown)
    }

    pub fn is_same_version(&self, other: &Policy) -> bool {
        self.shown == other.shown
    }

    /// What of the pod violates the policy; none if nothing.
    pub fn violations(&self, metadata: &Value, spec: &Value) -> Option<Violations> {
        if self.level == Level::Privileged {
            return None;
        }
        let pod = checks::Pod { metadata, spec };
        let found: Vec<_> = CHECKS
            .iter()
            .filter(|check| check.level <= self.level && self.version >= check.since)
            // A stricter rule on the same subject stands in for the weaker one.
            .filter(|check| check.replaced_at.is_none_or(|level| self.level < level))
            .filter_map(|check| (check.find)(&pod).map(|detail| (check.what, detail)))
            .collect();
        (!found.is_empty()).then_some(Violations(found))
    }

    /// The same in words: `PodSecurity "restricted:latest": …`.
    pub fn told(&self, metadata: &Value, spec: &Value) -> Option<String> {
        let found = self.violations(metadata, spec)?;
        Some(format!("PodSecurity \"{}\": {}", self.name(), found.details()))
    }
}

/// What is asked for in all modes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    pub enforce: Policy,
    pub audit: Policy,
    pub warn: Policy,
}

/// Which of a mode's two words were there and could be read.
#[derive(Clone, Copy)]
struct Read {
    level: bool,
    version: bool,
}

/// One mode: `from[prefix + mode]` and `from[prefix + mode + "-version"]`. A level that nobody knows is taken for `fallback`, a version
/// for the latest, and told.
fn mode(
    from: &Value,
    key: &str,
    fallback: Level,
    policy: &mut Policy,
    wrong: &mut dyn FnMut(&str, &str, &str),
) -> Read {
    let mut read = Read { level: false, version: false };
    if let Some(word) = from[key].as_str() {
        let level = Level::parse(word);
        read.level = level.is_some();
        policy.level = level.unwrap_or(fallback);
        if level.is_none() {
            wrong(key, word, "must be one of privileged, baseline, restricted");
        }
    }
    let key = format!("{key}-version");
    if let Some(word) = from[&key].as_str() {
        let minor = word.strip_prefix("v1.").filter(|m| *m == "0" || !m.starts_with(['0', '+']));
        let version = if word == "latest" { Some(LATEST) } else { minor.and_then(|m| m.parse::<u32>().ok()) };
        read.version = true;
        policy.version = version.unwrap_or(LATEST).min(LATEST);
        policy.shown = if version.is_some() { word } else { "latest" }.to_owned();
        if version.is_none() {
            wrong(&key, word, "must be \"latest\" or \"v1.x\"");
        }
    }
    read
}

impl Policies {
    /// As labels say, with what is wrong in them.
    pub fn of(labels: &Value, defaults: &Policies) -> (Policies, Vec<String>) {
        let mut policies = defaults.clone();
        let mut errors = Vec::new();
        let mut wrong = |key: &str, word: &str, why: &str| {
            errors.push(format!("metadata.labels[{key}]: Invalid value: {word:?}: {why}"));
        };
        let key = |mode: &str| format!("{PREFIX}{mode}");
        let enforce = mode(labels, &key("enforce"), Level::Restricted, &mut policies.enforce, &mut wrong);
        mode(labels, &key("audit"), Level::Privileged, &mut policies.audit, &mut wrong);
        let warned = labels.get(key("warn")).is_some();
        let warn = mode(labels, &key("warn"), Level::Privileged, &mut policies.warn, &mut wrong);
        // Who asks for a level wants to hear of templates that miss it, unless something else is said.
        if enforce.level && !warned && policies.enforce.level > policies.warn.level {
            policies.warn.level = policies.enforce.level;
            if !warn.version {
                policies.warn = policies.enforce.clone();
            }
        }
        (policies, errors)
    }

    /// As the `defaults` of a configuration say.
    pub fn of_configuration(defaults: &Value) -> Result<Policies, String> {
        let mut policies = Policies::default();
        let mut errors = Vec::new();
        let mut wrong = |key: &str, word: &str, why: &str| {
            errors.push(format!("defaults.{key}: Invalid value: {word:?}: {why}"));
        };
        for (name, policy) in
            [("enforce", &mut policies.enforce), ("audit", &mut policies.audit), ("warn", &mut policies.warn)]
        {
            mode(defaults, name, Level::Restricted, policy, &mut wrong);
        }
        if errors.is_empty() { Ok(policies) } else { Err(errors.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(labels: Value, defaults: &Policies) -> ([String; 3], Vec<String>) {
        let prefixed: serde_json::Map<_, _> =
            labels.as_object().unwrap().iter().map(|(k, v)| (format!("{PREFIX}{k}"), v.clone())).collect();
        let (policies, errors) = Policies::of(&prefixed.into(), defaults);
        ([policies.enforce, policies.audit, policies.warn].map(|p| p.name()), errors)
    }

    #[test]
    fn labels_stand_before_defaults() {
        let none = Policies::default();
        let defaults = Policies::of_configuration(&json!({"enforce": "baseline", "warn-version": "v1.20"})).unwrap();
        for (labels, defaults, want) in [
            (json!({}), &none, ["privileged:latest", "privileged:latest", "privileged:latest"]),
            (json!({}), &defaults, ["baseline:latest", "privileged:latest", "privileged:v1.20"]),
            (
                json!({"enforce": "restricted", "audit": "baseline", "audit-version": "v1.25"}),
                &defaults,
                ["restricted:latest", "baseline:v1.25", "restricted:latest"],
            ),
            // Warnings follow what is enforced, unless they are spoken of.
            (
                json!({"enforce": "baseline", "enforce-version": "v1.30"}),
                &none,
                ["baseline:v1.30", "privileged:latest", "baseline:v1.30"],
            ),
            (
                json!({"enforce": "baseline", "warn-version": "v1.24"}),
                &none,
                ["baseline:latest", "privileged:latest", "baseline:v1.24"],
            ),
            (
                json!({"enforce": "restricted", "warn": "privileged"}),
                &none,
                ["restricted:latest", "privileged:latest", "privileged:latest"],
            ),
        ] {
            assert_eq!(names(labels.clone(), defaults), (want.map(str::to_owned), Vec::new()), "{labels}");
        }
    }

    #[test]
    fn words_that_nobody_knows_are_told_and_taken_strictly_where_pods_are_refused() {
        let (policies, errors) = names(
            json!({"enforce": "strict", "enforce-version": "1.30", "warn": "loud", "audit-version": "v1.07"}),
            &Policies::default(),
        );
        assert_eq!(policies, ["restricted:latest", "privileged:latest", "privileged:latest"]);
        let at = |key: &str| format!("metadata.labels[{PREFIX}{key}]: Invalid value: ");
        assert_eq!(
            errors,
            [
                at("enforce") + "\"strict\": must be one of privileged, baseline, restricted",
                at("enforce-version") + "\"1.30\": must be \"latest\" or \"v1.x\"",
                at("audit-version") + "\"v1.07\": must be \"latest\" or \"v1.x\"",
                at("warn") + "\"loud\": must be one of privileged, baseline, restricted",
            ]
        );
        assert!(Policies::of_configuration(&json!({"audit": "none"})).unwrap_err().starts_with("defaults.audit: "));
    }
}
