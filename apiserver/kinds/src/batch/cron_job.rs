//! CronJobs.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError};

use super::{job, schedule};
use crate::core::pod_spec::{template, warnings};
use registry::edit::{at, copy, default, default_text, get, object, text};
use registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, NONE, SELECTOR, age, column, containers, count, created, integer, name, scalar_or,
    selector,
};
use registry::strategy::{Column, Strategy, Subresource, Table};

/// Names of jobs get eleven characters more, and names of pods must be labels.
const NAME_BYTES_MAX: usize = 52;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    default: defaulted,
    validate: |cron| {
        let at_name = cron.dig("metadata.name");
        if at_name.len() > NAME_BYTES_MAX {
            at_name.invalid(format!("must be no more than {NAME_BYTES_MAX} characters"));
        }
        spec(&cron.field("spec"), None);
    },
    validate_update: |new, old| spec(&new.field("spec"), Some(&old.field("spec"))),
    warnings: |cron, old| {
        let mut told = if old.is_none() { warnings::name(cron, "Pod names and hostnames") } else { Vec::new() };
        told.extend(job::many_indexes(cron, old, "spec.jobTemplate.spec"));
        told.extend(warnings::template(cron, old, "spec.jobTemplate.spec.template"));
        if old.is_some() && text(cron, "spec.schedule").contains("TZ") {
            told.push("spec.schedule: use timeZone instead of TZ or CRON_TZ".into());
        }
        told
    },
    subresources: &[Subresource {
        name: "status",
        prepare: |cron, old, _| copy(cron, old, "spec"),
        validate: |_, _| {},
        reset_fields: &["spec"],
    }],
    table: Some(Table {
        columns: &[
            NAME,
            column("Schedule", ".spec.schedule"),
            column("Timezone", ".spec.timeZone"),
            Column { name: "Suspend", kind: "boolean", format: "", priority: 0, description: ".spec.suspend" },
            integer("Active", ".status.active"),
            column("Last Schedule", ".status.lastScheduleTime"),
            AGE,
            CONTAINERS,
            IMAGES,
            Column { description: ".spec.jobTemplate.spec.selector", ..SELECTOR },
        ],
        cells: |cron, now| {
            let [names, images] = containers(get(cron, "spec.jobTemplate.spec.template.spec"));
            let last = get(cron, "status.lastScheduleTime").filter(|t| t.is_string());
            vec![
                name(cron),
                cron["spec"]["schedule"].clone(),
                scalar_or(cron, "spec.timeZone", NONE),
                (if cron["spec"]["suspend"] == true { "True" } else { "False" }).into(),
                count(cron, "status.active"),
                last.map_or(NONE.into(), |time| age(time, now)).into(),
                created(cron, now),
                names,
                images,
                selector(get(cron, "spec.jobTemplate.spec.selector")),
            ]
        },
    }),
    ..Strategy::GENERIC
};

fn defaulted(cron: &mut Value) {
    let spec = object(cron, "spec");
    default_text(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    if let Some(pods) = at(spec, "jobTemplate.spec.template") {
        template::default(pods);
    }
}

/// What stands in the old spec already, a zone in the schedule or a zone that nobody knows any more, may stay.
fn spec(spec: &Cursor<'_>, old: Option<&Cursor<'_>>) {
    let (when, zone) = (spec.field("schedule"), spec.field("timeZone"));
    if when.required() {
        let had_zone = old.is_some_and(|old| old.field("schedule").str().contains("TZ"));
        if let Some(problem) = schedule::problem(when.str()) {
            when.invalid(problem);
        }
        match (when.str().contains("TZ"), had_zone) {
            (true, true) if zone.exists() => {
                when.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule")
            }
            (true, false) => when.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
            _ => {}
        }
    }
    spec.field("startingDeadlineSeconds").non_negative();
    spec.field("concurrencyPolicy").required_one_of(&["Allow", "Forbid", "Replace"]);
    spec.field("successfulJobsHistoryLimit").non_negative();
    spec.field("failedJobsHistoryLimit").non_negative();
    let known = |name: &str| !name.eq_ignore_ascii_case("local") && jiff::tz::TimeZone::get(name).is_ok();
    if old.is_none_or(|old| old.field("timeZone").value() != zone.value()) && zone.exists() && !known(zone.str()) {
        zone.push(FieldError::invalid(
            zone.path(),
            zone.str(),
            "must be the name of a time zone, such as Europe/Berlin",
        ));
    }
    let template = spec.field("jobTemplate");
    let job_spec = template.field("spec");
    if job_spec.field("selector").exists() {
        job_spec.field("selector").invalid("`selector` will be auto-generated");
    }
    if job_spec.field("manualSelector").bool() {
        job_spec.field("manualSelector").not_supported(&["nil", "false"]);
    }
    job::spec(&job_spec);
}
