//! CronJobs.

use apimachinery::Value;
use apimachinery::validation::{Cursor, FieldError};

use super::{job, schedule};
use crate::registry::core::pod_spec::template;
use crate::registry::edit::{at, copy, default, default_text, get, object};
use crate::registry::printing::{
    AGE, CONTAINERS, IMAGES, NAME, NONE, SELECTOR, age, column, containers, count, created, integer, name, scalar_or,
    selector,
};
use crate::registry::strategy::{Column, Strategy, Subresource, Table};

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
        spec(&cron.field("spec"));
    },
    validate_update: |new, _| spec(&new.field("spec")),
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

fn spec(spec: &Cursor<'_>) {
    let when = spec.field("schedule");
    if when.required() {
        if when.str().contains("TZ") {
            when.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if let Some(problem) = schedule::problem(when.str()) {
            when.invalid(problem);
        }
    }
    spec.field("startingDeadlineSeconds").non_negative();
    spec.field("concurrencyPolicy").required_one_of(&["Allow", "Forbid", "Replace"]);
    spec.field("successfulJobsHistoryLimit").non_negative();
    spec.field("failedJobsHistoryLimit").non_negative();
    let zone = spec.field("timeZone");
    let known = |name: &str| !name.eq_ignore_ascii_case("local") && jiff::tz::TimeZone::get(name).is_ok();
    if zone.exists() && !known(zone.str()) {
        zone.push(FieldError::invalid(
            zone.path(),
            zone.str(),
            "must be the name of a time zone, such as Europe/Berlin",
        ));
    }
    let template = spec.field("jobTemplate");
    let job_spec = template.field("spec");
    if job_spec.field("manualSelector").bool() {
        job_spec.field("manualSelector").not_supported(&["nil", "false"]);
    }
    job::spec(&job_spec);
}
