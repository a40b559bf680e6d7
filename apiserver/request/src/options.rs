//! Query parameters, as the options types of the API: `ListOptions`, `CreateOptions`, `UpdateOptions`, `PatchOptions`,
//! `DeleteOptions`.

use crate::status::{Result, Status};
use apimachinery::Value;
use apimachinery::validation::{FieldError, Path};
use http::Uri;
use serde_json::json;
use std::borrow::Cow;

/// The pairs of a query.
pub fn query(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes())
}

/// How hard unknown and duplicate members are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of a write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: Option<bool>,
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// As given; empty, `0` or a number.
    pub resource_version: String,
    pub resource_version_match: String,
    pub limit: usize,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

/// Options of a delete, from the query or the body.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// A boolean of a query: upstream takes anything for true that does not say false.
pub fn flag(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn number(name: &str, value: &str) -> Result<i64> {
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|_| {
        Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax (parameter {name})"))
    })
}

impl WriteOptions {
    /// As an object of one of the options kinds.
    pub fn to_value(&self, kind: &str) -> Value {
        let mut value = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        if !self.field_manager.is_empty() {
            value["fieldManager"] = self.field_manager.as_str().into();
        }
        match self.field_validation {
            FieldValidation::Ignore => value["fieldValidation"] = "Ignore".into(),
            FieldValidation::Strict => value["fieldValidation"] = "Strict".into(),
            FieldValidation::Warn => {}
        }
        value
    }

    /// `kind` is the options type named in errors: `CreateOptions`, `UpdateOptions`, `PatchOptions`.
    pub fn parse(uri: &Uri, kind: &str) -> Result<WriteOptions> {
        let mut options = WriteOptions::default();
        let mut errors = Vec::new();
        for (name, value) in query(uri) {
            match &*name {
                "dryRun" if value == "All" => options.dry_run = true,
                "dryRun" if !value.is_empty() => {
                    errors.push(FieldError::not_supported(Path::new("dryRun"), Value::from(&*value), &["All"]))
                }
                "fieldManager" => options.field_manager = value.into_owned(),
                "fieldValidation" => {
                    options.field_validation = match &*value {
                        "" | "Warn" => FieldValidation::Warn,
                        "Ignore" => FieldValidation::Ignore,
                        "Strict" => FieldValidation::Strict,
                        other => {
                            let supported = ["", "Ignore", "Strict", "Warn"];
                            errors.push(FieldError::not_supported(
                                Path::new("fieldValidation"),
                                Value::from(other),
                                &supported,
                            ));
                            FieldValidation::Warn
                        }
                    }
                }
                "force" => options.force = Some(flag(&value)),
                _ => {}
            }
        }
        if options.field_manager.len() > 128 {
            errors.push(FieldError::too_long(Path::new("fieldManager"), 128));
        }
        if let Some(c) = options.field_manager.chars().find(|c| c.is_control()) {
            let detail = format!("should only contain printable characters, not {c:?}");
            errors.push(FieldError::invalid(Path::new("fieldManager"), Value::from(&*options.field_manager), detail));
        }
        if errors.is_empty() { Ok(options) } else { Err(Status::invalid("meta.k8s.io", kind, "", &errors)) }
    }
}

impl ListOptions {
    pub fn parse(uri: &Uri) -> Result<ListOptions> {
        let mut options = ListOptions::default();
        for (name, value) in query(uri) {
            match &*name {
                "labelSelector" => options.label_selector = value.into_owned(),
                "fieldSelector" => options.field_selector = value.into_owned(),
                "resourceVersion" => options.resource_version = value.into_owned(),
                "resourceVersionMatch" => options.resource_version_match = value.into_owned(),
                "limit" => options.limit = number("limit", &value)?.max(0) as usize,
                "continue" => options.continue_token = value.into_owned(),
                "timeoutSeconds" => options.timeout_seconds = Some(number("timeoutSeconds", &value)?.max(0) as u64),
                "allowWatchBookmarks" => options.allow_watch_bookmarks = flag(&value),
                "sendInitialEvents" => options.send_initial_events = Some(flag(&value)),
                _ => {}
            }
        }
        Ok(options)
    }

    /// Checks the rules between the parameters of a list (`watch`: of a watch).
    pub fn validate(&self, watch: bool) -> Result<()> {
        let mut errors = Vec::new();
        let rv_match = self.resource_version_match.as_str();
        let forbid = |errors: &mut Vec<FieldError>, field: &str, why: &str| {
            errors.push(FieldError::forbidden(Path::new(field), why))
        };
        if watch {
            match (self.send_initial_events, rv_match) {
                (Some(_), "NotOlderThan") | (None, "") => {}
                (Some(_), _) => {
                    forbid(&mut errors, "resourceVersionMatch", "must be NotOlderThan when sendInitialEvents is given");
                }
                (None, _) => {
                    forbid(
                        &mut errors,
                        "resourceVersionMatch",
                        "a watch takes it only together with sendInitialEvents",
                    );
                }
            }
        } else {
            if self.send_initial_events.is_some() {
                forbid(&mut errors, "sendInitialEvents", "only a watch takes it");
            }
            match rv_match {
                "" => {}
                "Exact" | "NotOlderThan" => {
                    if self.resource_version.is_empty() {
                        forbid(&mut errors, "resourceVersionMatch", "needs a resourceVersion");
                    }
                    if !self.continue_token.is_empty() {
                        forbid(&mut errors, "resourceVersionMatch", "a continue token brings its own version");
                    }
                    if rv_match == "Exact" && self.resource_version == "0" {
                        forbid(&mut errors, "resourceVersionMatch", "there is no exact version 0");
                    }
                }
                other => errors.push(FieldError::not_supported(
                    Path::new("resourceVersionMatch"),
                    Value::from(other),
                    &["Exact", "NotOlderThan"],
                )),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors)) }
    }
}

impl DeleteOptions {
    /// As an object of its kind.
    pub fn to_value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace_period_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation_policy {
            value["propagationPolicy"] = format!("{policy:?}").into();
        }
        for (name, text) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(text) = text {
                value["preconditions"][name] = text.as_str().into();
            }
        }
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }

    /// From the query, then from the body, which wins.
    pub fn parse(uri: &Uri, body: Option<&Value>) -> Result<DeleteOptions> {
        let mut options = DeleteOptions::default();
        let mut errors = Vec::new();
        let (mut policy, mut orphan) = (None, None);
        for (name, value) in query(uri) {
            match &*name {
                "gracePeriodSeconds" => options.grace_period_seconds = Some(number("gracePeriodSeconds", &value)?),
                "propagationPolicy" => policy = Some(value.into_owned()),
                "orphanDependents" => orphan = Some(flag(&value)),
                "dryRun" if value == "All" => options.dry_run = true,
                "dryRun" if !value.is_empty() => {
                    errors.push(FieldError::not_supported(Path::new("dryRun"), Value::from(&*value), &["All"]))
                }
                _ => {}
            }
        }
        if let Some(body) = body {
            options.grace_period_seconds = body["gracePeriodSeconds"].as_i64().or(options.grace_period_seconds);
            policy = body["propagationPolicy"].as_str().map(str::to_owned).or(policy);
            orphan = body["orphanDependents"].as_bool().or(orphan);
            options.uid = body["preconditions"]["uid"].as_str().map(str::to_owned);
            options.resource_version = body["preconditions"]["resourceVersion"].as_str().map(str::to_owned);
            if let Some(dry_run) = body["dryRun"].as_array().filter(|d| !d.is_empty()) {
                if dry_run.iter().any(|d| d != "All") {
                    errors.push(FieldError::not_supported(Path::new("dryRun"), body["dryRun"].clone(), &["All"]));
                }
                options.dry_run = true;
            }
        }
        if policy.is_some() && orphan.is_some() {
            errors.push(FieldError::invalid(
                Path::new("propagationPolicy"),
                Value::from(policy.as_deref()),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        options.propagation_policy = match policy.as_deref() {
            None => orphan.map(|o| if o { Propagation::Orphan } else { Propagation::Background }),
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(Path::new("propagationPolicy"), Value::from(other), &supported));
                None
            }
        };
        if errors.is_empty() { Ok(options) } else { Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors)) }
    }
}
