//! Templates of pods, in Deployments, Jobs and the like.

use apimachinery::Value;
use apimachinery::selector::LabelSelector;
use apimachinery::validation::{Cursor, object_meta};

use super::defaults;
use crate::registry::edit::at;

/// Fills what a template leaves out.
pub fn default(template: &mut Value) {
    if let Some(spec) = at(template, "spec") {
        defaults::template_spec(spec);
    }
}

/// Checks a template.
pub fn validate(template: &Cursor<'_>) {
    let meta = template.field("metadata");
    object_meta::labels(&meta.field("labels"));
    object_meta::annotations(&meta.field("annotations"));
    super::validate(&template.field("spec"));
    let ephemeral = template.dig("spec.ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbid("ephemeral containers not allowed in pod template");
    }
}

/// Checks a template that makes pods for a selector: its labels must be selected.
pub fn validate_selected(template: &Cursor<'_>, selector: &Cursor<'_>, policies: &[&str]) {
    if !template.exists() {
        template.missing("");
        return;
    }
    let labels = template.dig("metadata.labels");
    if let Ok(parsed) = LabelSelector::from_object(selector.value())
        && !parsed.is_everything()
        && !parsed.matches_object(labels.value())
    {
        labels.invalid("`selector` does not match template `labels`");
    }
    validate(template);
    let policy = template.dig("spec.restartPolicy");
    if !policies.contains(&policy.str()) {
        policy.not_supported(policies);
    }
    let deadline = template.dig("spec.activeDeadlineSeconds");
    if policies == ["Always"] && deadline.exists() {
        deadline.forbid("activeDeadlineSeconds in a template of pods that run forever is not supported");
    }
}
