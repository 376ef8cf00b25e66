//! Bytes that nobody meant, for every decoder: `scripts/fuzz` runs this.
//!
//! A target takes any bytes. It must not panic, must not allocate without bound (the script limits the memory of the
//! process), and what it decodes must come back the same when it is encoded and decoded again. What is tried: every
//! input of the corpus (`corpus/TARGET/`, where each finding is kept), then mutations of the corpus and of the target's
//! own examples, for a time.
//!
//! This fuzzer knows nothing of coverage. It knows the formats instead: its examples are valid, the checksums and MACs
//! are made right behind its back, and its mutations aim at lengths, counts and borders.
//!
//! `--seconds N` for each target, `--seed S`, `--target NAME`; `--input FILE` tries one input, as a failure is replayed.
//! Without arguments, as `cargo test` calls it, the corpus and a second of mutations for each target.

#![expect(
    clippy::print_stdout,
    reason = "what a run does is shown where it is run"
)]

mod mutate;
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use mutate::Dice;

/// A decoder: `Err` says which promise was broken.
pub(crate) type Target = fn(&[u8]) -> Result<(), String>;

/// Inputs of a target that changed what it answers are kept to be mutated further, so many at most.
const POOL: usize = 512;
const DEFAULT_SECONDS: u64 = 1;
const QUICK_SEED: u64 = 1;
/// One input may take so long.
const INPUT_PATIENCE: Duration = Duration::from_secs(5);

struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn some_seed() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ since.as_secs() << 20
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        seconds: DEFAULT_SECONDS,
        // The tests of today are those of yesterday; whoever looks for more gives a time.
        seed: QUICK_SEED,
        target: None,
        input: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--seconds" => {
                options.seconds = value()?.parse()?;
                if options.seed == QUICK_SEED {
                    options.seed = some_seed();
                }
            }
            "--seed" => options.seed = value()?.parse()?,
            "--target" => options.target = Some(value()?),
            "--input" => options.input = Some(value()?.into()),
            // `cargo test NAME` passes the name to every test binary.
            _ => {}
        }
    }
    Ok(options)
}

fn run(options: &Options) -> anyhow::Result<bool> {
    check_yourself();
    // A panic is reported with its input; its own message would only hide that.
    std::panic::set_hook(Box::new(|_| {}));
    let all = targets::all();
    let chosen: Vec<_> = all
        .iter()
        .filter(|(name, _)| {
            options
                .target
                .as_deref()
                .is_none_or(|wanted| wanted == *name)
        })
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "there is no such target");
    println!("seed {}", options.seed);
    let mut good = true;
    for (name, target) in chosen {
        if let Some(path) = &options.input {
            let input =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let broken = attempt(*target, &input);
            println!("{name}: {}", broken.as_deref().unwrap_or("as it should be"));
            good &= broken.is_none();
        } else {
            good &= fuzz(name, *target, options)?;
        }
    }
    Ok(good)
}

/// Tries the corpus and mutations; gives whether all went well.
fn fuzz(name: &str, target: Target, options: &Options) -> anyhow::Result<bool> {
    let corpus = corpus(name)?;
    for (path, input) in &corpus {
        if let Some(broken) = attempt(target, input) {
            println!(
                "{name}: {broken}\n  replay with: scripts/fuzz --target {name} --input {}",
                path.display()
            );
            return Ok(false);
        }
    }
    let examples = targets::examples(name);
    anyhow::ensure!(!examples.is_empty(), "{name} has no examples");
    let mut pool: Vec<Vec<u8>> = corpus.into_values().collect();
    pool.extend(examples);
    // A target of its own draws the same, whichever others run.
    let mut dice = Dice::new(
        options.seed
            ^ name.bytes().fold(0_u64, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u64::from(byte))
            }),
    );
    let began = Instant::now();
    let mut tried = 0_u64;
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let input = mutate::mutated(&pool, &mut dice);
        tried += 1;
        let begun = Instant::now();
        let mut broken = attempt(target, &input);
        if begun.elapsed() > INPUT_PATIENCE {
            broken = Some(format!("it took {:.1} s", begun.elapsed().as_secs_f64()));
        }
        if let Some(broken) = broken {
            let path = keep(name, &input)?;
            println!(
                "{name}: {broken}\n  {} bytes, kept in {}\n  replay with: scripts/fuzz --target {name} --input {}",
                input.len(),
                path.display(),
                path.display()
            );
            return Ok(false);
        }
        // Now and then a mutation becomes something to mutate further.
        if dice.below(64) == 0 && input.len() <= 16 << 10 {
            if pool.len() < POOL {
                pool.push(input);
            } else {
                let at = dice.index(POOL);
                pool[at] = input;
            }
        }
    }
    println!("{name:<20} {tried:>9} inputs, as it should be");
    Ok(true)
}

/// What an input breaks, if it does.
fn attempt(target: Target, input: &[u8]) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| target(input))) {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(broken),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("it panics: {}", text.unwrap_or("?")))
        }
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name)
}

fn corpus(name: &str) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder(name)).into_iter().flatten() {
        let path = entry?.path();
        found.insert(path.clone(), fs::read(path)?);
    }
    Ok(found)
}

fn keep(name: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
    let folder = folder(name);
    fs::create_dir_all(&folder)?;
    let path = folder.join(&blake3::hash(input).to_hex()[..16]);
    fs::write(&path, input)?;
    Ok(path)
}

/// A fuzzer that finds nothing may be blind: this one must find what is planted.
fn check_yourself() {
    fn panics(bytes: &[u8]) -> Result<(), String> {
        assert!(
            !bytes.windows(2).any(|pair| pair == [0xff, 0xff]),
            "planted"
        );
        Ok(())
    }
    fn forgets(bytes: &[u8]) -> Result<(), String> {
        let changed = bytes.len() > 20;
        if changed {
            Err("planted".to_owned())
        } else {
            Ok(())
        }
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for target in [panics as Target, forgets] {
        let pool = vec![vec![1; 16]];
        let mut dice = Dice::new(1);
        let found =
            (0..100_000).any(|_| attempt(target, &mutate::mutated(&pool, &mut dice)).is_some());
        assert!(found, "a planted fault was not found");
    }
    std::panic::set_hook(hook);
    println!("the fuzzer finds what is planted");
}
