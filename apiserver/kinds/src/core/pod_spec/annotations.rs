//! Annotations of pods and their templates that once were fields: where they are still set they must be well formed.

use apimachinery::validation::Cursor;

use super::affinity;

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Checks the annotations of a pod with `spec`.
pub fn validate(annotations: &Cursor<'_>, spec: &Cursor<'_>) {
    for (key, annotation) in annotations.entries() {
        let value = annotation.str();
        match key {
            MIRROR if spec.field("nodeName").is_empty() => {
                annotation.invalid("must set spec.nodeName if mirror pod annotation is set");
            }
            TOLERATIONS if !value.is_empty() => tolerations(annotations, value),
            DELETION_COST if !is_deletion_cost(value) => annotation.invalid("must be a 32bit integer"),
            SECCOMP_POD => seccomp(annotations, key, value),
            _ if key.starts_with(SECCOMP_CONTAINER) => seccomp(annotations, key, value),
            _ => {
                if let Some(container) = key.strip_prefix(APPARMOR) {
                    app_armor(&annotation, container, spec);
                }
            }
        }
    }
}

fn tolerations(annotations: &Cursor<'_>, text: &str) {
    match serde_json::from_str(text) {
        Ok(list) => {
            let path = annotations.path().child(TOLERATIONS);
            affinity::tolerations(&Cursor::at(Some(&list), path, annotations.errors()));
        }
        Err(e) => annotations.invalid_value(TOLERATIONS, e.to_string()),
    }
}

/// A number as Go writes it: a plus sign or zeros in front are refused, so that what is read is what was written.
fn is_deletion_cost(text: &str) -> bool {
    !text.starts_with('+') && (text == "0" || !text.starts_with('0')) && text.parse::<i32>().is_ok()
}

fn seccomp(annotations: &Cursor<'_>, key: &str, profile: &str) {
    let known = ["runtime/default", "docker/default", "unconfined"].contains(&profile);
    let local = profile
        .strip_prefix("localhost/")
        .is_some_and(|path| !path.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == ".."));
    if !known && !local {
        annotations.field(key).invalid_value(profile, "must be a valid seccomp profile");
    }
}

fn app_armor(annotation: &Cursor<'_>, container: &str, spec: &Cursor<'_>) {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let named = |list| spec.field(list).array().iter().any(|c| c["name"] == container);
    if !lists.into_iter().any(named) {
        annotation.invalid_value(container, "container not found");
    }
    let profile = annotation.str();
    if !["", "runtime/default", "unconfined"].contains(&profile) && !profile.starts_with("localhost/") {
        annotation.invalid(format!("invalid AppArmor profile name: {profile:?}"));
    }
}
