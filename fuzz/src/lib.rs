//! A fuzzer for stable Rust: corpus files are mutated by a seeded generator and given to targets, which must neither panic, nor
//! take memory out of proportion, nor break the laws they check.
//!
//! A [`Target`] is a row: a name (its corpus is the folder of that name), words that its inputs are made of, and a function.
//! [`round`] runs many mutations of one target; the same seed makes the same inputs. The input that is being run lies in a file,
//! so that it is there to be looked at even if it ended the process (a stack that overflows can't be caught).
//!
//! What never comes in: knowledge of what a target does. Targets of the libraries are in [`targets`]; those of the API server's
//! own parsers stand in its crate.

mod corpus;
pub mod memory;
mod mutate;
mod random;
pub mod targets;

pub use corpus::{Corpus, SEPARATOR, parts};
pub use random::Random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of an input.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Memory that a run of any input may take, and what each of its bytes may cost beyond that.
const MEMORY_BYTES: usize = 32 << 20;
const MEMORY_PER_BYTE: usize = 1_000;

/// Something that is given bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// What mutations put into inputs.
    pub words: &'static [&'static str],
    /// The parts of an input, as [`SEPARATOR`] divides it; at least as many as the corpus has, empty ones at the end.
    pub run: fn(&[&[u8]]),
}

/// Bounds of a round; whichever is reached first ends it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub inputs: u64,
    pub time: Duration,
}

/// An input that a target did not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub target: &'static str,
    pub seed: u64,
    /// Which of the inputs of the round it was.
    pub number: u64,
    pub input: Vec<u8>,
    pub why: String,
}

/// What a round did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub inputs: u64,
    /// The longest time that one input took, and that input. Told, not checked: machines differ.
    pub slowest: (Duration, Vec<u8>),
    pub failures: Vec<Failure>,
}

/// Failures of a round that are kept; more of the same help nobody.
const FAILURES_MAX: usize = 5;

/// Gives the corpus as it is, then mutations of it, to a target. The running input is kept in `scratch`.
pub fn round(target: &Target, corpus: &Corpus, seed: u64, bounds: Bounds, scratch: Option<&Path>) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::default();
    for number in 0..bounds.inputs {
        if started.elapsed() > bounds.time || outcome.failures.len() >= FAILURES_MAX {
            break;
        }
        let input = input(corpus, target.words, seed, number);
        if let Some(scratch) = scratch {
            let _ = std::fs::write(scratch, &input); // without it there is only less to look at
        }
        let began = Instant::now();
        let result = one(target, &input);
        let took = began.elapsed();
        if took > outcome.slowest.0 {
            outcome.slowest = (took, input.clone());
        }
        if let Err(why) = result {
            outcome.failures.push(Failure { target: target.name, seed, number, input, why });
        }
        outcome.inputs += 1;
    }
    outcome
}

/// An input of a round by its number: the corpus first, as it is, then mutations of it.
pub fn input(corpus: &Corpus, words: &[&str], seed: u64, number: u64) -> Vec<u8> {
    match corpus.files.get(number as usize) {
        Some(whole) => whole.clone(),
        None => mutate::mutate(corpus, words, &mut Random::new(seed ^ number.wrapping_mul(0x9e37_79b9))),
    }
}

/// Runs one input.
pub fn one(target: &Target, input: &[u8]) -> Result<(), String> {
    let parts = corpus::parts(input);
    let (result, bytes) = memory::peak(|| catch_unwind(AssertUnwindSafe(|| (target.run)(&parts))));
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        return Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned());
    }
    let allowed = MEMORY_BYTES + MEMORY_PER_BYTE * input.len();
    if bytes > allowed { Err(format!("took {bytes} bytes of memory; {allowed} are allowed")) } else { Ok(()) }
}

/// Where the corpora lie.
pub fn corpus_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// A short round of each target, for tests: panics with what was found.
pub fn check(targets: &[Target], inputs: u64) {
    let mut found = String::new();
    for target in targets {
        let corpus = Corpus::of(target.name).unwrap_or_else(|e| panic!("the corpus of {}: {e}", target.name));
        let bounds = Bounds { inputs, time: Duration::from_secs(20) };
        for failure in round(target, &corpus, 1, bounds, None).failures {
            let input = String::from_utf8_lossy(&failure.input).into_owned();
            found += &format!("{} (seed 1, input {}): {}\n{input:?}\n", target.name, failure.number, failure.why);
        }
    }
    assert!(found.is_empty(), "{found}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: fn(&[&[u8]])) -> Target {
        Target { name: "test", words: &["needle"], run }
    }

    fn outcome(run: fn(&[&[u8]]), seed: u64) -> Outcome {
        let corpus = Corpus { files: vec![b"{\"a\":[1,2,{\"b\":\"x\"}]}\n---\nsecond".to_vec()] };
        let bounds = Bounds { inputs: 20_000, time: Duration::from_secs(60) };
        round(&target(run), &corpus, seed, bounds, None)
    }

    #[test]
    fn what_a_target_does_not_stand_is_found_and_found_again() {
        let needle: fn(&[&[u8]]) = |parts| assert!(!parts.concat().windows(6).any(|w| w == b"needle"), "there it is");
        let first = outcome(needle, 7);
        assert_eq!(first.failures.len(), FAILURES_MAX);
        assert_eq!(first.failures[0].why, "there it is");
        assert_eq!(first.failures, outcome(needle, 7).failures);
        assert_ne!(first.failures, outcome(needle, 8).failures);
        let failure = &first.failures[0];
        assert_eq!(one(&target(needle), &failure.input), Err("there it is".to_owned()));
        assert!(outcome(|_| (), 7).failures.is_empty());
    }

    #[test]
    fn inputs_are_bounded() {
        let outcome = outcome(|parts| assert!(parts.iter().map(|p| p.len()).sum::<usize>() <= INPUT_BYTES_MAX), 3);
        assert_eq!((outcome.inputs, outcome.failures), (20_000, vec![]));
    }
}
