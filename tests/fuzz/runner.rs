//! Fuzzes on stable Rust: seeded mutation without coverage.
//!
//! Why: not every machine has nightly and libFuzzer, and a run must be repeatable anywhere. What
//! stands in for coverage is the number a target returns: an input that made something new happen
//! becomes a parent of others.
//!
//! Usage: `runner SECONDS TARGET [SEED]`, `runner --list`, `runner --seeds TARGET DIR`,
//! `runner --replay TARGET FILE…`. Failing inputs go to `artifacts/TARGET/`.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use slipway_fuzz::{TARGETS, Target, target};

/// Longest input.
const MAX_BYTES: usize = 64 << 10;
/// Most inputs that are kept as parents.
const MAX_PARENTS: usize = 20_000;
/// An input that takes longer than this is a finding.
const MAX_TIME: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        ["--seeds", name, dir] => write_seeds(target(name), Path::new(dir)),
        ["--replay", name, ref files @ ..] => {
            for file in files {
                let bytes = std::fs::read(file).expect("input");
                println!("{file}: {:016x}", (target(name).run)(&bytes));
            }
        }
        [seconds, name] => return fuzz(target(name), seconds, None),
        [seconds, name, seed] => return fuzz(target(name), seconds, Some(seed)),
        _ => panic!("usage: runner SECONDS TARGET [SEED] | --list | --seeds … | --replay …"),
    }
    ExitCode::SUCCESS
}

fn write_seeds(target: &Target, dir: &Path) {
    std::fs::create_dir_all(dir).expect("directory of seeds");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:04}")), seed).expect("seed");
    }
}

fn fuzz(target: &'static Target, seconds: &str, seed: Option<&str>) -> ExitCode {
    let time = Duration::from_secs(seconds.parse().expect("seconds"));
    let seed = seed.map_or_else(fresh_seed, |seed| seed.parse().expect("seed"));
    let mut random = Random(seed | 1);
    let mut parents = (target.seeds)();
    let seeds = parents.len();
    assert!(seeds > 0, "{} has no seeds", target.name);
    let now: Arc<Mutex<(Instant, Vec<u8>)>> = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    watch(target, Arc::clone(&now));

    let started = Instant::now();
    let mut seen = HashSet::new();
    let mut count = 0_u64;
    while started.elapsed() < time {
        // The seeds themselves first, as they are.
        let input = match usize::try_from(count).ok().filter(|count| *count < seeds) {
            Some(number) => parents[number].clone(),
            None => mutate(target, &parents, &mut random),
        };
        *now.lock().expect("no panic there") = (Instant::now(), input.clone());
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            Ok(kind) => {
                if seen.insert(kind) && parents.len() < MAX_PARENTS {
                    parents.push(input);
                }
            }
            Err(_) => {
                let file = save(target, "crash", &input);
                println!("{}: FAILED after {count} inputs (seed {seed}): {file}", target.name);
                return ExitCode::FAILURE;
            }
        }
        count += 1;
    }
    println!("{}: {count} inputs, {} kinds, ok (stable, seed {seed})", target.name, seen.len());
    ExitCode::SUCCESS
}

fn fresh_seed() -> u64 {
    let time = SystemTime::UNIX_EPOCH.elapsed().expect("clock after 1970");
    time.as_secs() ^ u64::from(time.subsec_nanos()) << 32
}

/// Ends the process when one input takes too long.
fn watch(target: &'static Target, now: Arc<Mutex<(Instant, Vec<u8>)>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let (since, input) = &*now.lock().expect("no panic there");
            if since.elapsed() > MAX_TIME {
                println!("{}: FAILED, too slow: {}", target.name, save(target, "slow", input));
                std::process::exit(1);
            }
        }
    });
}

fn save(target: &Target, what: &str, input: &[u8]) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
    std::fs::create_dir_all(&dir).expect("directory of artifacts");
    let sum = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let file = dir.join(format!("{what}-{sum:016x}"));
    std::fs::write(&file, input).expect("artifact");
    file.display().to_string()
}

fn mutate(target: &Target, parents: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(parents).clone();
    for _ in 0..1 + random.below(4) * random.below(4) {
        mutate_once(target, parents, &mut input, random);
    }
    input.truncate(MAX_BYTES);
    input
}

fn mutate_once(target: &Target, parents: &[Vec<u8>], input: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16) * random.below(16)).min(input.len());
    match random.below(10) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.byte(),
        2 if at < input.len() => input[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'0', b'\n']),
        3 => input.insert(at, random.byte()),
        4 => drop(input.drain(at..end.max(at))),
        5 => {
            // Numbers at their limits, in both byte orders.
            let values = [0, 1, u64::MAX, u64::MAX >> 1, 1 << 31, u64::from(u32::MAX), 1 << 20];
            let mut bytes = random.pick(&values).to_le_bytes();
            if random.below(2) == 0 {
                bytes.reverse();
            }
            let width = *random.pick(&[2, 4, 8]);
            let width = width.min(input.len() - at);
            input[at..at + width].copy_from_slice(&bytes[..width]);
        }
        6 => {
            let part = input[at..end.max(at)].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, part);
        }
        7 => {
            let other = random.pick(parents);
            let from = random.below(other.len() + 1);
            let to = (from + random.below(other.len() + 1)).min(other.len());
            let keep = if random.below(2) == 0 { at } else { end.max(at) };
            input.splice(at..keep, other[from..to].iter().copied());
        }
        8 if !target.words.is_empty() => {
            let word = random.pick(target.words).bytes();
            let keep = if random.below(2) == 0 { at } else { end.max(at) };
            input.splice(at..keep, word);
        }
        _ => {
            // Another number in place of a decimal one.
            let digit = input[at..].iter().position(u8::is_ascii_digit).map(|i| at + i);
            if let Some(digit) = digit {
                let length = input[digit..].iter().take_while(|c| c.is_ascii_digit()).count();
                let value = match random.below(4) {
                    0 => "0".to_owned(),
                    1 => "18446744073709551615".to_owned(),
                    2 => "99999999999999999999999".to_owned(),
                    _ => random.below(1000).to_string(),
                };
                input.splice(digit..digit + length, value.into_bytes());
            }
        }
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
