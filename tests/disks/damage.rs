//! Damage to the files of a stopped node, and what the node makes of it.
//!
//! Each trial damages one file: bits are flipped, a block is zeroed or filled with noise or with another block of the
//! file, the end is cut off, something is appended, the file is gone. Then the node is started. It may
//!
//! - refuse, with a message and an exit code, and without a word of a panic;
//! - serve, because the damage does no harm: then it catches up to the very digest of the others, answers everything
//!   that was acknowledged from its own state, does so under new load too, and its directory is found sound afterwards;
//! - stop later with a message, when it comes upon the damage.
//!
//! What it may not do is to answer wrongly, to panic, to hang, or to serve on from what `mesto verify` calls damaged. A
//! node whose disk is bad is replaced as the README says, by a new node with a new number, and the cluster is whole
//! again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::dice::Dice;
use crate::load::People;
use crate::nodes::Nodes;

const PEOPLE: usize = 6;
/// A cluster remembers every node that it ever had, so after some replacements another one is made.
const TRIALS_PER_CLUSTER: usize = 12;
/// How often a node is killed and not stopped, so that it has not sealed its data last of all.
const KILLED_SHARE_PERCENT: u64 = 30;
/// How long a node may take to refuse or to serve.
const PATIENCE: Duration = Duration::from_secs(20);
const BLOCK_BYTES: usize = 4096;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    FlipBits(u64),
    ZeroBlock,
    NoiseBlock,
    /// A block is where another should be: a write went astray.
    WrongBlock,
    Truncate,
    Append,
    Delete,
}

const HARMS: [Harm; 8] = [
    Harm::FlipBits(1),
    Harm::FlipBits(16),
    Harm::ZeroBlock,
    Harm::NoiseBlock,
    Harm::WrongBlock,
    Harm::Truncate,
    Harm::Append,
    Harm::Delete,
];

/// What a damaged node did.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Refused(String),
    Harmless,
    StoppedLater(String),
    /// It is not ready to serve, and stays so. The README names this limit: who is killed has not sealed what it wrote
    /// last, so a damaged end looks like one that was never written.
    StaysBehind,
}

#[derive(Debug, Default)]
struct Coverage {
    refused: usize,
    harmless: usize,
    stopped_later: usize,
    stays_behind: usize,
    replaced: usize,
}

/// Damages files `count` times, on as many clusters as that takes.
///
/// # Errors
/// The first thing that did not hold.
pub(crate) async fn run(folder: &Path, count: usize, dice: &mut Dice) -> anyhow::Result<()> {
    let mut coverage = Coverage::default();
    let mut done = 0;
    while done < count {
        let cluster = folder.join(format!("cluster-{done}"));
        fs::create_dir_all(&cluster)?;
        let trials = TRIALS_PER_CLUSTER.min(count - done);
        let mut field = Field::prepare(&cluster, dice).await?;
        for number in done..done + trials {
            field.trial(number, &mut coverage).await?;
        }
        field.replace(&mut coverage).await?;
        done += trials;
    }
    println!(
        "{count} damages: {} refused, {} harmless, {} noticed later, {} left behind; {} nodes replaced",
        coverage.refused,
        coverage.harmless,
        coverage.stopped_later,
        coverage.stays_behind,
        coverage.replaced
    );
    ensure!(
        count < 8 || (coverage.refused > 0 && coverage.harmless > 0),
        "every damage came to the same: this run proves nothing"
    );
    Ok(())
}

struct Field<'a> {
    folder: PathBuf,
    nodes: Nodes,
    people: People,
    /// The node whose files are damaged. It is stopped between two trials.
    patient: u64,
    /// Whether it was killed, and not stopped.
    killed: bool,
    dice: &'a mut Dice,
}

impl<'a> Field<'a> {
    /// A cluster with some history, one node of which is stopped.
    async fn prepare(folder: &Path, dice: &'a mut Dice) -> anyhow::Result<Field<'a>> {
        let mut nodes = Nodes::new(folder, None)?;
        for id in 1..=3 {
            nodes.add(id, folder.join(format!("node-{id}")))?;
        }
        nodes.found(&[1, 2, 3]).await?;
        let people = People::prepare(&nodes, PEOPLE, dice).await?;
        let mut field = Field {
            folder: folder.to_owned(),
            nodes,
            people,
            patient: 3,
            killed: false,
            dice,
        };
        field.load(1_500).await?;
        field.nodes.converge().await?;
        field.leave()?;
        Ok(field)
    }

    async fn load(&mut self, for_ms: u64) -> anyhow::Result<()> {
        let load = self.people.begin(&self.nodes);
        tokio::time::sleep(Duration::from_millis(for_ms)).await;
        self.people.end(load).await?;
        self.people.check(&self.nodes).await
    }

    async fn trial(&mut self, number: usize, coverage: &mut Coverage) -> anyhow::Result<()> {
        let data = self.nodes.data(self.patient).to_owned();
        let pristine = self.folder.join("pristine");
        copy(&data, &pristine)?;
        let (file, harm, size) = self.harm(&data)?;
        let name = file.strip_prefix(&data)?.display().to_string();
        let ended = if self.killed { "killed" } else { "stopped" };
        let what = format!("damage {number}: {harm:?} of {name} ({size} bytes), {ended}");
        let (sound, verified) = self.nodes.verify(self.patient)?;
        no_panic(&verified).with_context(|| format!("{what}: mesto verify"))?;
        let began = Instant::now();
        let outcome = self.start_damaged().await.with_context(|| what.clone())?;
        println!(
            "{what}: {}, {}  {:.1} s",
            if sound {
                "verified sound"
            } else {
                "found by verify"
            },
            match &outcome {
                Outcome::Refused(why) => format!("refused: {why}"),
                Outcome::Harmless => "harmless".to_owned(),
                Outcome::StoppedLater(why) => format!("noticed later: {why}"),
                Outcome::StaysBehind => "left behind, not ready".to_owned(),
            },
            began.elapsed().as_secs_f64()
        );
        match outcome {
            Outcome::Refused(_) => {
                coverage.refused += 1;
                // It has said nothing to anybody, so its old disk may come back.
                fs::remove_dir_all(&data)?;
                fs::rename(&pristine, &data)?;
                return Ok(());
            }
            Outcome::Harmless => coverage.harmless += 1,
            Outcome::StoppedLater(_) => coverage.stopped_later += 1,
            Outcome::StaysBehind => coverage.stays_behind += 1,
        }
        fs::remove_dir_all(&pristine)?;
        if outcome != Outcome::Harmless {
            return self.replace(coverage).await.context(what);
        }
        let (sound, said) = self.nodes.verify(self.patient)?;
        if outcome == Outcome::Harmless {
            ensure!(
                sound,
                "{what}: it served, and is damaged afterwards:\n{said}"
            );
        } else {
            self.replace(coverage).await.context(what)?;
        }
        Ok(())
    }

    /// Damages one file; gives which, how, and how long it was.
    fn harm(&mut self, data: &Path) -> anyhow::Result<(PathBuf, Harm, u64)> {
        let files = files(data)?;
        // State and log are nearly all there is; the other files get their share.
        let part = match self.dice.below(10) {
            0..4 => Some("state"),
            4..8 => Some("journal"),
            _ => None,
        };
        let inside =
            |path: &&PathBuf| part.is_none_or(|part| path.starts_with(data.join("db").join(part)));
        let candidates: Vec<&PathBuf> = files.iter().filter(inside).collect();
        let file = (*self.dice.pick(&candidates)).clone();
        let harm = *self.dice.pick(&HARMS);
        let mut bytes = fs::read(&file)?;
        let size = bytes.len();
        apply(harm, &mut bytes, self.dice);
        if harm == Harm::Delete {
            fs::remove_file(&file)?;
        } else {
            fs::write(&file, &bytes)?;
        }
        Ok((file, harm, u64::try_from(size)?))
    }

    async fn start_damaged(&mut self) -> anyhow::Result<Outcome> {
        let id = self.patient;
        let logged = self.nodes.logged(id).len();
        self.nodes.start(id)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.nodes.answers(id, "/readyz").await {
            if let Some(why) = self.how_it_ended(logged)? {
                return Ok(Outcome::Refused(why));
            }
            if Instant::now() > deadline {
                self.nodes.kill(id)?;
                if self.killed {
                    return Ok(Outcome::StaysBehind);
                }
                bail!(
                    "it neither serves nor refuses:\n{}",
                    self.nodes.log_tail(id)
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match self.serve_and_stop().await {
            Ok(()) => {
                no_panic(&self.nodes.logged(id)[logged..])?;
                Ok(Outcome::Harmless)
            }
            // Whatever did not go well must be because it has stopped, and said why.
            Err(error) if self.nodes.running().contains(&id) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                match self.how_it_ended(logged)? {
                    Some(why) => Ok(Outcome::StoppedLater(why)),
                    None => Err(error.context(self.nodes.log_tail(id))),
                }
            }
            Err(error) => Err(error.context(self.nodes.log_tail(id))),
        }
    }

    /// All that a sound node can do.
    async fn serve_and_stop(&mut self) -> anyhow::Result<()> {
        let id = self.patient;
        self.nodes.converge().await?;
        self.people.check_locally(&self.nodes, id).await?;
        self.people.check(&self.nodes).await?;
        self.load(300).await?;
        self.nodes.converge().await?;
        self.people.check_locally(&self.nodes, id).await?;
        self.leave()
    }

    /// Ends the patient, in one way or the other.
    fn leave(&mut self) -> anyhow::Result<()> {
        self.killed = self.dice.percent(KILLED_SHARE_PERCENT);
        if self.killed {
            self.nodes.kill(self.patient)
        } else {
            self.nodes.stop(self.patient)
        }
    }

    /// The last words of the patient, if it has ended; they must be understandable.
    fn how_it_ended(&mut self, logged: usize) -> anyhow::Result<Option<String>> {
        let Some(status) = self.nodes.ended(self.patient)? else {
            return Ok(None);
        };
        let said = self.nodes.logged(self.patient).split_off(logged);
        no_panic(&said)?;
        ensure!(status.code() == Some(1), "it ended with {status}:\n{said}");
        let mut lines = said.lines().rev();
        let why = lines.find_map(|line| line.strip_prefix("error: "));
        let why = why.with_context(|| format!("it ended without a reason:\n{said}"))?;
        Ok(Some(why.to_owned()))
    }

    /// What the README tells an operator to do about a dead machine: a new node with a new number takes its place.
    async fn replace(&mut self, coverage: &mut Coverage) -> anyhow::Result<()> {
        let (old, new) = (self.patient, self.patient + 1);
        self.nodes.kill(old)?;
        self.nodes
            .add(new, self.folder.join(format!("node-{new}")))?;
        self.nodes.start(new)?;
        self.nodes.answering(new, "/livez").await?;
        let (http, peer) = self.nodes.addresses(new);
        let id = new.to_string();
        self.nodes.succeed(&[
            "cluster", "add-node", "--id", &id, "--http", &http, "--peer", &peer,
        ])?;
        self.nodes
            .succeed(&["cluster", "remove-node", "--id", &old.to_string()])?;
        self.nodes.forget(old)?;
        self.patient = new;
        self.nodes.ready().await?;
        self.nodes.converge().await?;
        self.people.check_locally(&self.nodes, new).await?;
        self.load(300).await?;
        self.nodes.converge().await?;
        coverage.replaced += 1;
        self.leave()?;
        let (sound, said) = self.nodes.verify(new)?;
        ensure!(sound, "the new node is damaged:\n{said}");
        Ok(())
    }
}

fn no_panic(said: &str) -> anyhow::Result<()> {
    for word in ["panicked", "RUST_BACKTRACE"] {
        ensure!(
            !said.contains(word),
            "an operator is shown a panic:\n{said}"
        );
    }
    Ok(())
}

/// Damages a file. A harm that changes nothing, like a block of zeros that is zeroed, is none, so it is done again
/// elsewhere; where it never can be, as in a file of one block, a bit is flipped.
fn apply(harm: Harm, bytes: &mut Vec<u8>, dice: &mut Dice) {
    if harm == Harm::Delete {
        return;
    }
    let whole = bytes.clone();
    for _ in 0..100 {
        apply_once(harm, bytes, dice);
        if *bytes != whole {
            return;
        }
    }
    apply_once(Harm::FlipBits(1), bytes, dice);
    assert_ne!(*bytes, whole, "one bit is another");
}

fn apply_once(harm: Harm, bytes: &mut Vec<u8>, dice: &mut Dice) {
    let length = bytes.len();
    if length == 0 {
        // Nothing but growing can happen to an empty file.
        bytes.push(0x5a);
        return;
    }
    match harm {
        Harm::FlipBits(count) => {
            for _ in 0..count {
                let block = block(bytes, dice);
                block[dice.index(block.len())] ^= 1 << dice.below(8);
            }
        }
        Harm::ZeroBlock => block(bytes, dice).fill(0),
        Harm::NoiseBlock => {
            let mut noise = dice.fork();
            for byte in block(bytes, dice) {
                *byte = u8::try_from(noise.below(256)).expect("it is below 256");
            }
        }
        Harm::WrongBlock => {
            let other = block(bytes, dice).to_vec();
            for (byte, other) in block(bytes, dice).iter_mut().zip(other) {
                *byte = other;
            }
        }
        Harm::Truncate => bytes.truncate(dice.index(length)),
        Harm::Append => {
            let count = 1 + dice.index(10_000);
            bytes.resize(length + count, 0xa5);
        }
        Harm::Delete => {}
    }
}

/// One block of a file that is not empty; mostly one that holds something, since files are filled with zeros ahead.
fn block<'b>(bytes: &'b mut [u8], dice: &mut Dice) -> &'b mut [u8] {
    let used = |(_, block): &(usize, &[u8])| block.iter().any(|byte| *byte != 0);
    let mut blocks: Vec<usize> = (0..bytes.len().div_ceil(BLOCK_BYTES)).collect();
    let filled: Vec<usize> = bytes
        .chunks(BLOCK_BYTES)
        .enumerate()
        .filter(used)
        .map(|(at, _)| at)
        .collect();
    if !filled.is_empty() && dice.percent(90) {
        blocks = filled;
    }
    let from = *dice.pick(&blocks) * BLOCK_BYTES;
    let to = (from + BLOCK_BYTES).min(bytes.len());
    &mut bytes[from..to]
}

/// Every file under `folder`, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("a file without a name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
