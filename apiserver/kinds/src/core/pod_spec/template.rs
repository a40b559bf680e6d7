//! Templates of pods, in Deployments, Jobs and the like.

use apimachinery::Value;
use apimachinery::selector::LabelSelector;
use apimachinery::validation::{Cursor, object_meta};

use super::defaults;
use registry::edit::at;

/// Fills what a template leaves out.
pub fn default(template: &mut Value) {
    if let Some(spec) = at(template, "spec") {
        defaults::template_spec(spec);
    }
}

/// Checks a template.
pub fn validate(template: &Cursor<'_>) {
    validate_metadata(template);
    super::validate(&template.field("spec"), None);
    let ephemeral = template.dig("spec.ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbid("ephemeral containers not allowed in pod template");
    }
}

/// Checks labels and annotations. Upstream leaves `metadata` out of their paths.
pub fn validate_metadata(template: &Cursor<'_>) {
    let meta = template.field("metadata");
    object_meta::labels(&template.field("labels").with_value(meta.field("labels").value()));
    let annotations = template.field("annotations").with_value(meta.field("annotations").value());
    object_meta::annotations(&annotations);
    super::annotations::validate(&annotations, &template.field("spec"));
}

/// Checks a template that makes pods which run forever for a selector of `kind`.
pub fn validate_selected(template: &Cursor<'_>, selector: &Cursor<'_>, kind: &str) {
    if !template.exists() {
        template.missing("");
        return;
    }
    selected(template, selector);
    validate(template);
    restarts_always(template, kind);
}

/// The labels of a template must be selected.
pub fn selected(template: &Cursor<'_>, selector: &Cursor<'_>) {
    let labels = template.dig("metadata.labels");
    if let Ok(parsed) = LabelSelector::from_object(selector.value())
        && !parsed.is_everything()
        && !parsed.matches_object(labels.value())
    {
        labels.invalid("`selector` does not match template `labels`");
    }
}

/// Pods that run forever are restarted always, and have no deadline.
pub fn restarts_always(template: &Cursor<'_>, kind: &str) {
    let policy = template.dig("spec.restartPolicy");
    if policy.str() != "Always" {
        policy.not_supported(&["Always"]);
    }
    let deadline = template.dig("spec.activeDeadlineSeconds");
    if deadline.exists() {
        deadline.forbid(format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}
