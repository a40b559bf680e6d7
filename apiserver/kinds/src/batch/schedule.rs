//! The schedules of cron jobs: five fields of numbers, or a word such as `@daily`.

/// Fields in their order: name, smallest and largest number, names that stand for numbers from the smallest on.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of month", 1, 31, &[]),
    ("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("day of week", 0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];
const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule, if anything.
pub fn problem(schedule: &str) -> Option<String> {
    // Old objects may have their zone in front.
    let zoned = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| schedule.strip_prefix(prefix)).map(|s| s.split_once(' '));
    let schedule = match zoned {
        Some(Some((zone, _))) if jiff::tz::TimeZone::get(zone).is_err() => {
            return Some(format!("unknown zone {zone:?}"));
        }
        Some(Some((_, rest))) => rest.trim_start(),
        Some(None) => return Some(format!("no schedule behind the zone: {schedule:?}")),
        None => schedule,
    };
    if let Some(interval) = schedule.strip_prefix("@every ") {
        let valid = interval.ends_with(['h', 'm', 's']) && interval.starts_with(|c: char| c.is_ascii_digit());
        return (!valid).then(|| format!("failed to parse duration {interval:?}"));
    }
    if schedule.starts_with('@') {
        return (!WORDS.contains(&schedule)).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let parts: Vec<_> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Some(format!("expected exactly 5 fields, found {}: {schedule:?}", parts.len()));
    }
    parts.iter().zip(FIELDS).find_map(|(part, field)| {
        let wrong = part.split(',').find(|range| !is_range(range, field))?;
        Some(format!("{wrong:?} is no valid {}", field.0))
    })
}

/// `*`, `5`, `1-5`, each with an optional step `/n`.
fn is_range(text: &str, (_, min, max, names): (&str, u32, u32, &[&str])) -> bool {
    let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
    if step.is_some_and(|s| s.parse::<u32>().is_ok_and(|n| n == 0) || s.parse::<u32>().is_err()) {
        return false;
    }
    if matches!(range, "*" | "?") {
        return true;
    }
    let number = |text: &str| {
        let named = names.iter().position(|n| n.eq_ignore_ascii_case(text)).map(|i| i as u32 + min);
        let n = named.or_else(|| text.parse::<u32>().ok())?;
        (min..=max).contains(&n).then_some(n)
    };
    match range.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => number(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6,12 1 JAN mon-fri", "@daily", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "@never",
            "a * * * *",
        ] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
