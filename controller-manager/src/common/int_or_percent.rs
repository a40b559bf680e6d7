//! Numbers that may be given as a share: `maxUnavailable: 25%`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a share of a whole is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// The number that `value` means of `total`; `None` if it is neither a number nor a percentage.
pub fn resolve(value: &IntOrString, total: i32, round: Round) -> Option<i32> {
    let percent = match value {
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(text) => i64::from(text.strip_suffix('%')?.parse::<i32>().ok()?),
    };
    let product = percent * i64::from(total);
    let share = match round {
        Round::Down => product.div_euclid(100),
        Round::Up => -(-product).div_euclid(100),
    };
    i32::try_from(share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_as_asked() {
        let percent = |text: &str| IntOrString::String(text.into());
        for (value, total, up, down) in [
            (IntOrString::Int(3), 10, Some(3), Some(3)),
            (percent("25%"), 10, Some(3), Some(2)),
            (percent("50%"), 4, Some(2), Some(2)),
            (percent("0%"), 7, Some(0), Some(0)),
            (percent("100%"), 7, Some(7), Some(7)),
            (percent("1%"), 1, Some(1), Some(0)),
            (percent("many"), 1, None, None),
        ] {
            assert_eq!(resolve(&value, total, Round::Up), up, "{value:?} of {total} up");
            assert_eq!(resolve(&value, total, Round::Down), down, "{value:?} of {total} down");
        }
    }
}
