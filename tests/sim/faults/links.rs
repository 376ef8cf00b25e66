//! What goes wrong between machines.

use super::Later;
use crate::coverage::Event;
use crate::net::{CLIENTS, Host, name};
use crate::plan::Fault;
use crate::shared::note;
use crate::world::World;

impl World {
    pub(super) fn partition(&mut self, fault: Fault) {
        let mut nodes: Vec<Host> = self.machines.keys().copied().collect();
        self.director.dice.shuffle(&mut nodes);
        let mut cut: Vec<(Host, Host)> = Vec::new();
        let mut both = |a: Host, b: Host| cut.extend([(a, b), (b, a)]);
        let event = match fault {
            Fault::PartitionMinority => {
                let size = nodes.len().div_ceil(2) - 1;
                let (few, many) = nodes.split_at(size.max(1));
                for a in few {
                    many.iter().for_each(|b| both(*a, *b));
                }
                Event::PartitionMinority
            }
            Fault::PartitionBridge => {
                // Two halves that only one node can still see both of.
                let (bridge, rest) = nodes.split_at(1);
                let (left, right) = rest.split_at(rest.len() / 2);
                for a in left {
                    right.iter().for_each(|b| both(*a, *b));
                }
                debug_assert_eq!(bridge.len(), 1, "one node is the bridge");
                Event::PartitionBridge
            }
            Fault::PartitionRing => {
                // Each sees its two neighbours only; of three, each link is open one way around.
                if nodes.len() == 3 {
                    cut.extend([
                        (nodes[0], nodes[1]),
                        (nodes[1], nodes[2]),
                        (nodes[2], nodes[0]),
                    ]);
                } else {
                    for a in 0..nodes.len() {
                        for b in a + 2..nodes.len() {
                            if b - a != nodes.len() - 1 {
                                both(nodes[a], nodes[b]);
                            }
                        }
                    }
                }
                Event::PartitionRing
            }
            Fault::PartitionOneWay => {
                let one = nodes[0];
                let from = self.director.dice.chance(0.5);
                for other in &nodes[1..] {
                    cut.push(if from { (one, *other) } else { (*other, one) });
                }
                Event::PartitionOneWay
            }
            Fault::PartitionClients => {
                both(nodes[0], CLIENTS);
                Event::PartitionClients
            }
            _ => {
                let leader = self.leader().filter(|_| fault == Fault::PartitionLeader);
                let one = leader.unwrap_or(nodes[0]);
                for other in nodes.iter().filter(|other| **other != one) {
                    both(one, *other);
                }
                match leader {
                    Some(_) => Event::PartitionLeader,
                    None => Event::PartitionOne,
                }
            }
        };
        note!(self.shared, "{}: {cut:?}", event.text());
        self.shared.count(event);
        for (from, to) in &cut {
            self.sim.partition_oneway(name(*from), name(*to));
        }
        let lasting_ms = self.lasting_ms();
        self.later(lasting_ms, Later::Repair(cut));
    }

    pub(super) fn some_link(&mut self) -> Option<(Host, Host)> {
        let mut nodes: Vec<Host> = self.machines.keys().copied().collect();
        self.director.dice.shuffle(&mut nodes);
        nodes.first().copied().zip(nodes.get(1).copied())
    }

    pub(super) fn hold(&mut self) {
        if let Some((a, b)) = self.some_link() {
            note!(self.shared, "the link between {a} and {b} is held");
            self.shared.count(Event::LinkHeld);
            self.sim.hold(name(a), name(b));
            let lasting_ms = self.lasting_ms();
            self.later(lasting_ms, Later::Release(a, b));
        }
    }

    pub(super) fn slow_down(&mut self) {
        if let Some((a, b)) = self.some_link() {
            let most_ms = self.director.dice.between(30, 400);
            note!(
                self.shared,
                "the link between {a} and {b} takes up to {most_ms} ms"
            );
            self.shared.count(Event::LinkSlow);
            self.set_speed(a, b, most_ms);
            let lasting_ms = self.lasting_ms();
            self.later(lasting_ms, Later::SpeedUp(a, b));
        }
    }

    pub(super) fn set_speed(&self, a: Host, b: Host, most_ms: u64) {
        let most = std::time::Duration::from_millis(most_ms);
        self.sim
            .set_link_max_message_latency(name(a), name(b), most);
    }
}
