//! Power cuts under load, one after the other on the same cluster.
//!
//! Each cut freezes the processes that are to lose power (SIGSTOP, every thread in state T), so that what they have
//! acknowledged is settled, cuts the file systems, kills the processes, mounts again, checks each disk by itself with
//! `mesto verify`, starts the nodes and demands everything that was acknowledged.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::load::People;
use crate::nodes::Nodes;

const NODES: [u64; 3] = [1, 2, 3];
const PEOPLE: usize = 12;
/// Answers that were sent before a node froze may still be on their way to the people.
const ANSWERS_ARRIVE: Duration = Duration::from_millis(50);

/// Who loses power, and who is there afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All three at once.
    All,
    /// One, while the others go on.
    One,
    /// One was down. Of the two that acknowledged everything since, one loses power and the other is switched off:
    /// what the cut one has on its disk is the only copy.
    Witness,
    /// One was down for so long that it needs a snapshot, and loses power while it catches up.
    CatchingUp,
}

/// What the victim is doing when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    AnyTime,
    /// A snapshot was just asked for; purging the log follows it.
    Snapshot,
}

/// Marks what a cut has done to the nodes or their data, as opposed to what kept anybody from looking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not everything was there after the cut")
    }
}

/// What happened in the cuts, so that a run shows that it looked.
#[derive(Debug, Default)]
struct Coverage {
    kinds: [usize; 4],
    at_snapshot: usize,
    /// Nodes whose files were not the same after the cut: it really took something.
    bitten: usize,
    /// Snapshots that were cut off half-written.
    half_snapshots: usize,
    /// Layers of the state that were cut off half-carried, and carried again.
    half_layers: usize,
    /// Logs that had been purged between two cuts.
    purges: usize,
}

struct Field<'a> {
    nodes: Nodes,
    disks: Vec<Disk>,
    people: People,
    coverage: Coverage,
    dice: &'a mut Dice,
}

/// Makes `count` cuts on a new cluster in `folder`. `preload` is loaded into each node.
///
/// # Errors
/// The first thing that did not hold, with what was going on.
pub(crate) async fn run(
    folder: &Path,
    count: usize,
    dice: &mut Dice,
    preload: Option<PathBuf>,
) -> anyhow::Result<()> {
    let mut nodes = Nodes::new(folder, preload)?;
    let mut disks = Vec::new();
    for id in NODES {
        let disk = Disk::create(folder, &format!("disk-{id}"))?;
        nodes.add(id, disk.path().join("data"))?;
        disks.push(disk);
    }
    nodes.found(&NODES).await?;
    let people = People::prepare(&nodes, PEOPLE, dice).await?;
    let mut field = Field {
        nodes,
        disks,
        people,
        coverage: Coverage::default(),
        dice,
    };
    let mut kinds = Vec::new();
    while kinds.len() < count {
        let mut round = [Kind::All, Kind::One, Kind::Witness, Kind::CatchingUp];
        field.dice.shuffle(&mut round);
        kinds.extend(round);
    }
    for (number, kind) in kinds.into_iter().take(count).enumerate() {
        let moment = if field.dice.percent(50) {
            Moment::Snapshot
        } else {
            Moment::AnyTime
        };
        let began = std::time::Instant::now();
        let cut = field.make(kind, moment).await;
        cut.with_context(|| format!("cut {number} ({kind:?}, {moment:?}) failed"))?;
        println!(
            "cut {number:3}  {:<10}  {:<8}  {:6} bookings acknowledged, all there  {:.1} s",
            format!("{kind:?}"),
            format!("{moment:?}"),
            field.people.acknowledged(),
            began.elapsed().as_secs_f64()
        );
    }
    field.coverage.report(count)
}

impl Field<'_> {
    async fn make(&mut self, kind: Kind, moment: Moment) -> anyhow::Result<()> {
        self.coverage.kinds[kind as usize] += 1;
        match kind {
            Kind::All => {
                let load = self.people.begin(&self.nodes);
                self.wait_for(moment, 1).await;
                self.cut(&NODES).await?;
                self.people.end(load).await?;
                self.power_on(&NODES).await.context(Finding)?;
            }
            Kind::One => {
                let victim = *self.dice.pick(&NODES);
                let load = self.people.begin(&self.nodes);
                self.wait_for(moment, victim).await;
                self.cut(&[victim]).await?;
                // The others go on without it, for a while.
                self.pause(100, 500).await;
                self.people.end(load).await?;
                self.power_on(&[victim]).await.context(Finding)?;
            }
            Kind::Witness => {
                let mut roles = NODES;
                self.dice.shuffle(&mut roles);
                let [witness, silent, behind] = roles;
                self.nodes.kill(behind)?;
                self.nodes.ready().await?;
                let load = self.people.begin(&self.nodes);
                self.wait_for(moment, witness).await;
                self.nodes.freeze(silent)?;
                self.cut(&[witness]).await?;
                self.nodes.kill(silent)?;
                self.people.end(load).await?;
                self.power_on(&[witness]).await.context(Finding)?;
                self.nodes.start(behind)?;
                self.nodes.ready().await.context(Finding)?;
                let alone = self.people.check(&self.nodes).await;
                alone
                    .context("with the power-cut node as the only one that knew")
                    .context(Finding)?;
                self.nodes.start(silent)?;
            }
            Kind::CatchingUp => {
                let victim = *self.dice.pick(&NODES);
                self.nodes.kill(victim)?;
                self.nodes.ready().await?;
                let load = self.people.begin(&self.nodes);
                self.pause(700, 1_200).await;
                self.people.end(load).await?;
                self.nodes.start(victim)?;
                // From just started to just done: the installation of the snapshot is in between.
                self.pause(10, 400).await;
                self.cut(&[victim]).await?;
                self.power_on(&[victim]).await.context(Finding)?;
            }
        }
        self.all_is_there().await.context(Finding)?;
        self.note_purges().await
    }

    async fn all_is_there(&mut self) -> anyhow::Result<()> {
        self.nodes.ready().await?;
        self.nodes.converge().await?;
        self.people.check(&self.nodes).await
    }

    async fn pause(&mut self, least_ms: u64, most_ms: u64) {
        let pause_ms = least_ms + self.dice.below(most_ms - least_ms);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }

    /// Lets the load run until the moment has come.
    async fn wait_for(&mut self, moment: Moment, victim: u64) {
        self.pause(200, 1_200).await;
        if moment == Moment::Snapshot {
            self.coverage.at_snapshot += 1;
            let url = format!("{}/api/v1/cluster/snapshot", self.nodes.url(victim));
            let request = self
                .nodes
                .http()
                .post(url)
                .bearer_auth(crate::nodes::OPERATOR);
            // Whether it is answered does not matter: the power may be gone by then.
            tokio::spawn(async move { drop(request.send().await) });
            self.pause(1, 60).await;
        }
    }

    /// The power of these nodes goes, at once.
    async fn cut(&mut self, victims: &[u64]) -> anyhow::Result<()> {
        for id in victims {
            self.nodes.freeze(*id)?;
        }
        tokio::time::sleep(ANSWERS_ARRIVE).await;
        let mut before = Vec::new();
        for id in victims {
            self.coverage.half_snapshots += half_snapshots(self.nodes.data(*id));
            before.push(contents(self.nodes.data(*id)));
        }
        for id in victims {
            self.disk(*id).cut()?;
        }
        for id in victims {
            self.nodes.kill(*id)?;
        }
        for (id, before) in victims.iter().zip(before) {
            self.disk(*id).repower()?;
            if contents(self.nodes.data(*id)) != before {
                self.coverage.bitten += 1;
            }
        }
        Ok(())
    }

    fn disk(&self, id: u64) -> &Disk {
        let at = NODES.iter().position(|node| *node == id);
        &self.disks[at.expect("a node of this cluster")]
    }

    /// Starts nodes whose power had gone, after each disk has been found sound.
    async fn power_on(&mut self, ids: &[u64]) -> anyhow::Result<()> {
        for id in ids {
            // A first start that was cut short before the store was made leaves nothing to verify.
            let (sound, said) = self.nodes.verify(*id)?;
            ensure!(sound, "node {id} is damaged after the cut:\n{said}");
        }
        for id in ids {
            let logged = self.nodes.logged(*id).len();
            self.nodes.start(*id)?;
            self.nodes.answering(*id, "/livez").await?;
            let said = self.nodes.logged(*id).split_off(logged);
            ensure!(!said.contains("panicked"), "node {id} panicked:\n{said}");
            self.coverage.half_layers += said.matches("that was not carried to its end").count();
        }
        Ok(())
    }

    async fn note_purges(&mut self) -> anyhow::Result<()> {
        let view = self.nodes.view(NODES[0]).await?;
        self.coverage.purges += usize::from(view["purged"].as_u64().is_some());
        Ok(())
    }
}

impl Coverage {
    /// Prints what happened, and demands that what must have happened did.
    fn report(&self, count: usize) -> anyhow::Result<()> {
        let [all, one, witness, catching_up] = self.kinds;
        println!(
            "{count} cuts: {all} of all nodes, {one} of one, {witness} of the only one that knew, {catching_up} while \
             catching up; {} at a snapshot",
            self.at_snapshot
        );
        println!(
            "{} disks lost something; {} snapshots were cut off half-written; {} half-carried layers were gone on with; \
             logs had been purged after {} cuts",
            self.bitten, self.half_snapshots, self.half_layers, self.purges
        );
        if count >= 8 {
            ensure!(
                self.bitten > 0,
                "no cut ever took anything: this run proves nothing"
            );
            ensure!(
                self.purges > 0,
                "no log was ever purged: this run proves less than it says"
            );
            ensure!(self.at_snapshot > 0, "no cut was made at a snapshot");
        }
        Ok(())
    }
}

/// Snapshot files that were begun and not yet put in place.
fn half_snapshots(data: &Path) -> usize {
    let entries = fs::read_dir(data.join("snapshots")).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| name.to_string_lossy().contains("aside"))
        .count()
}

/// A digest of every file under `folder`, with its name.
fn contents(folder: &Path) -> Vec<(PathBuf, blake3::Hash)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap_or_default();
                found.push((path, blake3::hash(&bytes)));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Builds the library that makes every sync a lie.
pub(crate) fn build_no_sync(folder: &Path) -> anyhow::Result<PathBuf> {
    let source = folder.join("no_sync.c");
    fs::write(&source, include_str!("no_sync.c"))?;
    let library = folder.join("no_sync.so");
    let mut build = Command::new("cc");
    build
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source]);
    let built = build.status().context("cannot run the C compiler")?;
    ensure!(built.success(), "the planted fault cannot be compiled");
    Ok(library)
}
