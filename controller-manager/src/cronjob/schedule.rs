//! When a CronJob runs. Pure.

use std::time::Duration;

use component_base::cli::GoDuration;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

/// More missed runs hint at a clock that jumped; they are not counted one by one.
pub(super) const MISSED_MANY: usize = 100;
/// A zone in front of a schedule, which Kubernetes never promised to understand.
const ZONE_PREFIXES: [&str; 2] = ["CRON_TZ=", "TZ="];

/// The five fields of cron, or `@every` with a duration.
#[derive(Debug)]
pub(super) enum Schedule {
    Cron(Box<Cron>),
    Every(Duration),
}

/// The run that is due: the last one missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub at: Timestamp,
    /// How many were missed, counted up to one more than [`MISSED_MANY`].
    pub missed: usize,
}

impl Schedule {
    /// Reads `schedule` of a CronJob; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(period) = text.trim().strip_prefix("@every ") {
            let period: GoDuration = period.trim().parse().map_err(|error| format!("{error}"))?;
            // Whole seconds, and at least one.
            return Ok(Self::Every(Duration::from_secs(period.get().as_secs().max(1))));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(text).map(|cron| Self::Cron(Box::new(cron))).map_err(|error| error.to_string())
    }

    /// The first run after `time`; `None` if there is none.
    pub fn next(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(time.as_second()).ok()?;
                whole.checked_add(SignedDuration::try_from(*period).ok()?).ok()
            }
            Self::Cron(cron) => {
                let next: Zoned = cron.find_next_occurrence(&time.to_zoned(zone.clone()), false).ok()?;
                Some(next.timestamp())
            }
        }
    }

    /// The last run in `(since, now]`, and how many there were.
    pub fn due(&self, since: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Due> {
        let mut due: Option<Due> = None;
        let mut at = since;
        while let Some(next) = self.next(at, zone).filter(|next| *next <= now && *next > at) {
            let missed = due.map_or(0, |due| due.missed) + 1;
            due = Some(Due { at: next, missed });
            if missed > MISSED_MANY {
                return Some(Due { at: self.last(next, now, zone), missed });
            }
            at = next;
        }
        due
    }

    /// The last run in `[run, now]`, where there is one at `run`.
    fn last(&self, run: Timestamp, now: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Every(period) => {
                let period_secs = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
                let over_secs = now.duration_since(run).as_secs() % period_secs;
                Timestamp::from_second(now.as_second() - over_secs).map_or(run, |at| at.max(run))
            }
            Self::Cron(cron) => cron
                .find_previous_occurrence(&now.to_zoned(zone.clone()), true)
                .map_or(run, |at| at.timestamp().max(run)),
        }
    }
}

/// A schedule and the zone written in front of it.
pub(super) fn split_zone(text: &str) -> (Option<&str>, &str) {
    let text = text.trim();
    let named = ZONE_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)?.split_once(' '));
    named.map_or((None, text), |(zone, schedule)| (Some(zone), schedule.trim()))
}

/// Whether a schedule speaks of zones where it must not.
pub(super) fn mentions_zone(text: &str) -> bool {
    text.contains("TZ")
}

/// The zone a schedule is read in: the CronJob's, else this machine's.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None | Some("Local") => Ok(TimeZone::system()),
        Some("") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_run() {
        for (schedule, zone_name, after, next) in [
            ("*/5 * * * *", "UTC", "2024-01-01T00:01:30Z", "2024-01-01T00:05:00Z"),
            ("0 9 * * *", "Europe/Berlin", "2024-07-01T00:00:00Z", "2024-07-01T07:00:00Z"),
            ("@hourly", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("0 0 13 * 5", "UTC", "2024-02-01T00:00:00Z", "2024-02-02T00:00:00Z"),
            ("@every 90s", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T00:01:30Z"),
        ] {
            let zone = zone(Some(zone_name)).unwrap();
            let found = Schedule::parse(schedule).unwrap().next(time(after), &zone);
            assert_eq!(found, Some(time(next)), "{schedule} in {zone_name}");
        }
    }

    #[test]
    fn of_missed_runs_the_last_is_due() {
        let schedule = Schedule::parse("0 * * * *").unwrap();
        for (since, now, expected) in [
            ("2024-01-01T00:30:00Z", "2024-01-01T00:59:59Z", None),
            ("2024-01-01T00:30:00Z", "2024-01-01T01:00:00Z", Some(("2024-01-01T01:00:00Z", 1))),
            ("2024-01-01T00:30:00Z", "2024-01-01T03:10:00Z", Some(("2024-01-01T03:00:00Z", 3))),
        ] {
            let due = schedule.due(time(since), time(now), &TimeZone::UTC);
            assert_eq!(due.map(|due| (due.at, due.missed)), expected.map(|(at, missed)| (time(at), missed)), "{now}");
        }
    }

    #[test]
    fn of_very_many_missed_runs_the_last_is_found_without_looking_at_all() {
        for (schedule, now, at) in [
            ("* * * * *", "2124-01-01T00:00:30Z", "2124-01-01T00:00:00Z"),
            ("0 0 * * *", "2124-01-01T10:00:00Z", "2124-01-01T00:00:00Z"),
            ("@every 90s", "2024-01-02T00:00:31Z", "2024-01-02T00:00:00Z"),
        ] {
            let due = Schedule::parse(schedule).unwrap().due(time("2024-01-01T00:00:00Z"), time(now), &TimeZone::UTC);
            assert_eq!(due, Some(Due { at: time(at), missed: MISSED_MANY + 1 }), "{schedule}");
        }
    }

    #[test]
    fn a_run_that_never_comes_has_no_next() {
        let schedule = Schedule::parse("59 23 31 2 *").unwrap();
        assert_eq!(schedule.next(time("2024-01-01T00:00:00Z"), &TimeZone::UTC), None);
    }

    #[test]
    fn a_zone_in_front_is_split_off() {
        for (text, split) in [
            ("* * * * *", (None, "* * * * *")),
            ("TZ=Europe/Berlin 0 9 * * *", (Some("Europe/Berlin"), "0 9 * * *")),
            ("CRON_TZ=UTC @daily", (Some("UTC"), "@daily")),
        ] {
            assert_eq!(split_zone(text), split);
            assert_eq!(mentions_zone(text), split.0.is_some());
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["", "* * *", "61 * * * *", "* * * * * *", "@every soon"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        assert!(zone(Some("Nowhere/Land")).is_err());
    }
}
