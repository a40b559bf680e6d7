//! Eviction's signals, and what a threshold means: evictionHard and evictionSoft are checked by them, what pods may ask of
//! the node depends on them, and eviction acts on them.

use crate::quantity;

/// Signal, the node condition it makes, and the resource that pods are ranked by.
pub const SIGNALS: [(&str, &str, &str); 7] = [
    ("memory.available", "MemoryPressure", "memory"),
    ("nodefs.available", "DiskPressure", "ephemeral-storage"),
    ("nodefs.inodesFree", "DiskPressure", "inodes"),
    ("imagefs.available", "DiskPressure", "ephemeral-storage"),
    ("imagefs.inodesFree", "DiskPressure", "inodes"),
    ("containerfs.available", "DiskPressure", "ephemeral-storage"),
    ("pid.available", "PIDPressure", "pids"),
];

/// A threshold's amount in the signal's own units (bytes, inodes, PIDs): a quantity, or a percentage of `capacity`. What
/// is neither counts as 0; the configuration's validation refuses it before.
pub fn amount(text: &str, capacity: i64) -> i64 {
    match text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok()) {
        Some(percent) => (capacity as f64 * percent / 100.0) as i64,
        None => quantity::parse(text).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_amounts_or_shares() {
        assert_eq!((amount("100Mi", 1), amount("10%", 1000)), (104_857_600, 100));
    }
}
