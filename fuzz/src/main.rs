//! `fuzz MINUTES [TARGET]`: rounds of every target, or of one, until the time is up, with a new seed each. `fuzz replay TARGET FILE` runs
//! one input.

use anyhow::Context;
use fuzz::{Bounds, Corpus, Target, targets};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

#[global_allocator]
static MEMORY: fuzz::memory::Counting = fuzz::memory::Counting;

/// Inputs that take longer are shown.
const SLOW: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| -> anyhow::Result<Vec<Target>> {
        let found: Vec<_> = targets::ALL.iter().filter(|t| t.name == name).copied().collect();
        anyhow::ensure!(!found.is_empty(), "no target {name}; there are: {}", targets::ALL.map(|t| t.name).join(", "));
        Ok(found)
    };
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["replay", target, file] => {
            let input = std::fs::read(file).with_context(|| format!("reading {file}"))?;
            fuzz::one(&named(target)?[0], &input).map_err(anyhow::Error::msg)
        }
        [minutes] => run(minutes, &targets::ALL),
        [minutes, target] => run(minutes, &named(target)?),
        _ => anyhow::bail!("usage: fuzz MINUTES [TARGET] | fuzz replay TARGET FILE"),
    }
}

fn run(minutes: &str, targets: &[Target]) -> anyhow::Result<()> {
    let minutes: f64 = minutes.parse().context("MINUTES is a number")?;
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
    std::fs::create_dir_all(&folder)?;
    let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut failed = 0;
    // A panic is told with its input below.
    std::panic::set_hook(Box::new(|_| ()));
    while Instant::now() < end {
        for target in targets {
            let corpus = Corpus::of(target.name).with_context(|| format!("the corpus of {}", target.name))?;
            let bounds = Bounds { inputs: u64::MAX, time: Duration::from_secs(5) };
            let running = folder.join(format!("{}.running", target.name));
            let outcome = fuzz::round(target, &corpus, seed, bounds, Some(&running));
            let _ = std::fs::remove_file(running); // it is of use only after a crash
            let (slowest, input) = outcome.slowest;
            println!("{:<14} seed {seed}: {} inputs, slowest {slowest:?}", target.name, outcome.inputs);
            if slowest > SLOW {
                let path = folder.join(format!("{}.{seed}.slow", target.name));
                std::fs::write(&path, input)?;
                println!("    slow: {}", path.display());
            }
            for failure in outcome.failures {
                failed += 1;
                let path = folder.join(format!("{}.{seed}.{}", target.name, failure.number));
                std::fs::write(&path, &failure.input)?;
                println!("    FAILED: {} ({})", failure.why, path.display());
            }
        }
        seed += 1;
    }
    anyhow::ensure!(failed == 0, "{failed} inputs failed; they are in {}", folder.display());
    Ok(())
}
