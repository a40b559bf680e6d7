//! When a CronJob runs. Pure.

use std::time::Duration;

use component_base::cli::GoDuration;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

/// Runs looked through at most; more missed ones are not counted.
const MISSED_MAX: usize = 100_000;
/// So many missed runs hint at a clock that jumped.
pub(super) const MISSED_MANY: usize = 100;

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
            if missed >= MISSED_MAX {
                break;
            }
            at = next;
        }
        due
    }
}

/// The zone a schedule is read in: the CronJob's, else this machine's.
pub(super) fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None => Ok(TimeZone::system()),
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
    fn what_cannot_be_read_is_refused() {
        for text in ["", "* * *", "61 * * * *", "* * * * * *", "@every soon"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        assert!(zone(Some("Nowhere/Land")).is_err());
    }
}
