//! The second half of a run: a quorum must do without the rest; then everything is mended, and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesto_raft::NodeId;
use serde_json::json;

use crate::checker::{self, Verdict};
use crate::coverage::Event;
use crate::dice::Dice;
use crate::front::Request;
use crate::net::name;
use crate::plan::Fault;
use crate::shared::note;
use crate::town::{Told, Town};
use crate::world::World;

/// How long a mended quorum may take to elect, serve and converge, in simulated milliseconds.
const LIVENESS_MS: u64 = 20_000;

/// A failure that finds nothing: the checker could not tell.
pub(crate) const OUT_OF_BUDGET: &str = "the checker's budget";

impl World {
    /// As TigerBeetle does it: a quorum is mended, everybody else stays broken for good. A system that only waits for
    /// one more node to come back fails here.
    pub(crate) fn prove_liveness(&mut self) {
        let mut dice = Dice::new(self.plan.seed, "liveness");
        let (core, rest) = self.choose_core(&mut dice);
        note!(
            self.shared,
            "{core:?} are mended, {rest:?} are left for good"
        );
        for id in &rest {
            self.forsake(*id, &mut dice);
        }
        self.town.jobs.lock().waiting.clear();
        self.mend();
        for id in &core {
            for other in &rest {
                self.sim.partition(name(*id), name(*other));
            }
        }
        let began_ms = self.shared.now_ms();
        let served = self.run_until(LIVENESS_MS, |world| world.leader_of(&core).is_some());
        self.demand(served, "elected no leader", &core);
        let proven: Vec<_> = core
            .iter()
            .copied()
            .filter(|id| self.is_voter(*id, &core))
            .collect();
        for id in &proven {
            let probe = probe(Arc::clone(&self.town), *id, began_ms);
            self.crowd.spawn(probe);
        }
        let left_ms = (began_ms + LIVENESS_MS).saturating_sub(self.shared.now_ms());
        // A removal that was under way may still be decided, whether or not its operator hears of it.
        let gone = |world: &Self, id: &NodeId| {
            world.town.jobs.lock().gone.contains(id)
                || (world.leader_of(&core).is_some() && !world.is_voter(*id, &core))
        };
        let has_served =
            |world: &Self, id: &NodeId| world.town.proven.lock().contains(id) || gone(world, id);
        let served = self.run_until(left_ms, |world| {
            proven.iter().all(|id| has_served(world, id))
        });
        self.demand(served, "did not serve on every node", &core);
        let target = self.watch.committed();
        let left_ms = (began_ms + LIVENESS_MS).saturating_sub(self.shared.now_ms());
        let reached = |world: &Self, id: &NodeId| {
            let running = world.machines[id].running();
            running.is_some_and(|running| running.node.vitals().applied >= target)
                || gone(world, id)
        };
        let converged = self.run_until(left_ms, |world| proven.iter().all(|id| reached(world, id)));
        self.demand(converged, "did not converge", &core);
        let took_ms = self.shared.now_ms() - began_ms;
        note!(self.shared, "the quorum is alive after {took_ms} ms");
        self.shared.count(Event::Liveness);
        if !rest.is_empty() {
            self.shared.count(Event::LivenessWithout);
        }
    }

    fn demand(&self, done: bool, what: &str, core: &[NodeId]) {
        if !done {
            self.shared.fail(
                "liveness",
                format!("the mended quorum {core:?} {what} within {LIVENESS_MS} ms"),
            );
        }
    }

    /// A quorum of every membership that may be in force, of whole nodes; and the other members.
    fn choose_core(&self, dice: &mut Dice) -> (Vec<NodeId>, Vec<NodeId>) {
        let jobs = self.town.jobs.lock();
        let changing: BTreeSet<NodeId> =
            [jobs.joining, jobs.leaving].into_iter().flatten().collect();
        let with = jobs.members.clone();
        let memberships: Vec<BTreeSet<NodeId>> = vec![
            with.clone(),
            with.iter()
                .copied()
                .filter(|id| Some(*id) != jobs.leaving)
                .collect(),
            with.iter()
                .copied()
                .filter(|id| Some(*id) != jobs.joining)
                .collect(),
            with.difference(&changing).copied().collect(),
        ];
        let is_quorum = |core: &BTreeSet<NodeId>| {
            memberships
                .iter()
                .all(|members| members.intersection(core).count() * 2 > members.len())
        };
        let mut core: BTreeSet<NodeId> = with
            .iter()
            .copied()
            .filter(|id| !self.director.lost.contains(id))
            .collect();
        let mut order: Vec<NodeId> = core.iter().copied().collect();
        dice.shuffle(&mut order);
        for id in order {
            let mut less = core.clone();
            less.remove(&id);
            if !changing.contains(&id) && dice.chance(0.8) && is_quorum(&less) {
                core = less;
            }
        }
        let rest = self
            .machines
            .keys()
            .copied()
            .filter(|id| !core.contains(id) && !jobs.gone.contains(id));
        let rest = rest.collect();
        (core.into_iter().collect(), rest)
    }

    /// Leaves a node to its fate: dead, paused, or cut off while it runs.
    fn forsake(&mut self, id: NodeId, dice: &mut Dice) {
        self.director.forsaken.insert(id);
        self.watch.look(&self.machines);
        match dice.below(3) {
            0 => {
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.kill();
                }
                self.watch.ended(id);
            }
            1 => {
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.paused = machine.process.is_some();
                }
            }
            _ => {}
        }
    }

    pub(crate) fn leader_of(&self, core: &[NodeId]) -> Option<NodeId> {
        let leads = |id: &&NodeId| {
            let running = self.machines[*id].running();
            running.is_some_and(|running| running.node.vitals().leads)
        };
        core.iter().find(leads).copied()
    }

    fn is_voter(&self, id: NodeId, core: &[NodeId]) -> bool {
        let leader = self
            .leader_of(core)
            .and_then(|leader| self.machines[&leader].running());
        leader.is_some_and(|leader| {
            leader
                .node
                .voters()
                .iter()
                .any(|voters| voters.contains(&id))
        })
    }

    /// Everybody whose disk is whole is mended.
    pub(crate) fn mend_everything(&mut self) {
        let lost = self.director.lost.clone();
        self.director.forsaken.retain(|id| lost.contains(id));
        self.mend();
    }

    /// All whole voters come to the same index and state, with no time limit but this.
    pub(crate) fn expect_convergence(&mut self, when: &'static str, most_ms: u64) {
        let done = self.run_until(most_ms, Self::is_converged);
        if !done {
            let states: BTreeMap<_, _> = self
                .machines
                .iter()
                .filter_map(|(id, machine)| {
                    let vitals = machine.running()?.node.vitals();
                    Some((
                        id,
                        (vitals.leads, vitals.term, vitals.last_log, vitals.applied),
                    ))
                })
                .collect();
            self.shared.fail(
                "liveness",
                format!("no convergence {when} within {most_ms} ms: (leads, term, last, applied) {states:?}"),
            );
        }
    }

    fn is_converged(&self) -> bool {
        let voters = self.whole_voters();
        let seen: Vec<_> = voters
            .iter()
            .map(|id| {
                self.machines[id]
                    .running()
                    .map(|running| running.node.vitals())
            })
            .collect();
        let first = seen.first().copied().flatten();
        let same = |vitals: &Option<mesto_raft::Vitals>| {
            vitals.is_some_and(|vitals| {
                first.is_some_and(|first| {
                    vitals.applied == first.applied
                        && vitals.last_log == first.last_log
                        && vitals.applied == vitals.last_log
                })
            })
        };
        seen.iter().all(same) && seen.iter().flatten().any(|vitals| vitals.leads)
    }

    /// The voters as the leader knows them, but for those whose disks were damaged.
    pub(crate) fn whole_voters(&self) -> Vec<NodeId> {
        let all: Vec<NodeId> = self.machines.keys().copied().collect();
        let leader = self
            .leader_of(&all)
            .and_then(|leader| self.machines[&leader].running());
        let Some(leader) = leader else { return all };
        let voters: BTreeSet<_> = leader.node.voters().into_iter().flatten().collect();
        let whole = voters
            .into_iter()
            .filter(|id| !self.director.lost.contains(id));
        whole.collect()
    }

    /// What is left at the end, against what clients were told.
    pub(crate) fn judge(&mut self) {
        if !self.goes_on() {
            return;
        }
        crate::audit::audit(self);
        let history = self.town.history.lock();
        let verdict = checker::check(&history, checker::BUDGET);
        note!(
            self.shared,
            "{} records, {}",
            history.records.len(),
            first_line(&verdict.to_string())
        );
        match verdict {
            Verdict::Linearizable { .. } => {}
            Verdict::Violation(_) => self.shared.fail("linearizability", verdict.to_string()),
            Verdict::OutOfBudget { .. } => self.shared.fail(OUT_OF_BUDGET, verdict.to_string()),
        }
        if self.plan.has(Fault::Crash) && self.watch.elections() == 0 {
            self.shared.fail("liveness", "nobody was ever seen to lead");
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

/// Writes and reads through one node until both succeed.
async fn probe(town: Arc<Town>, node: NodeId, number: u64) {
    let email = format!("probe-{node}-{number}@example.com");
    let body = json!({"email": email, "password": "a password of a probe"});
    let key = format!("probe-{node}-{number}");
    loop {
        let write = Request::new("POST", "/api/v1/users")
            .body(body.clone())
            .key(&key);
        let read = Request::new("GET", "/api/v1/spaces");
        let wrote = succeeded(&town.ask(node, write, 3_000).await);
        if wrote && succeeded(&town.ask(node, read, 3_000).await) {
            town.proven.lock().insert(node);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn succeeded(told: &Told) -> bool {
    matches!(told, Told::Answer(response) if response.is_success())
}
