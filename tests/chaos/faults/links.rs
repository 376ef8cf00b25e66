//! Links that carry nothing, one way only, late, or not always.

use super::{Chaos, Held};
use crate::proxy::{Flow, Rule};

impl Chaos<'_> {
    /// How a link is dead: without a word, or by refusing.
    fn dead(&mut self) -> Rule {
        if self.random.one_in(3) {
            Rule::refusing()
        } else {
            Rule::silent()
        }
    }

    fn others(&self, id: u64) -> Vec<u64> {
        self.cluster
            .ids()
            .into_iter()
            .filter(|other| *other != id)
            .collect()
    }

    /// All pairs of different members.
    fn links(&self) -> Vec<(u64, u64)> {
        let ids = self.cluster.ids();
        let pairs = ids
            .iter()
            .flat_map(|one| ids.iter().map(move |other| (*one, *other)));
        pairs.filter(|(one, other)| one != other).collect()
    }

    pub(super) async fn isolate(&mut self, leader: bool) -> anyhow::Result<Held> {
        let id = self.target(leader).await?;
        let dead = self.dead();
        for other in self.others(id) {
            self.cluster.net.rule((id, other), dead);
            self.cluster.net.rule((other, id), dead);
        }
        let time = self.random.between_ms(1_500, 4_000);
        let probes = self.probe.minority(self.cluster, &[id], time).await?;
        self.cluster.net.heal();
        Ok(self.held(
            vec![id],
            format!("{probes} requests to the minority, none acknowledged"),
        ))
    }

    pub(super) async fn isolate_all(&mut self) -> anyhow::Result<Held> {
        let dead = self.dead();
        for link in self.links() {
            self.cluster.net.rule(link, dead);
        }
        let ids = self.cluster.ids();
        let time = self.random.between_ms(1_500, 3_000);
        let probes = self.probe.minority(self.cluster, &ids, time).await?;
        self.cluster.net.heal();
        Ok(self.held(
            ids,
            format!("{probes} requests to minorities, none acknowledged"),
        ))
    }

    pub(super) async fn one_way(&mut self, outward: bool) -> anyhow::Result<Held> {
        let id = self.target(true).await?;
        let dead = self.dead();
        for other in self.others(id) {
            self.cluster
                .net
                .rule(if outward { (id, other) } else { (other, id) }, dead);
        }
        self.pass(1_500, 3_500).await;
        self.cluster.net.heal();
        Ok(self.held(vec![id], ""))
    }

    pub(super) async fn answers_lost(&mut self) -> anyhow::Result<Held> {
        let leader = self.random.one_in(2);
        let id = self.target(leader).await?;
        let answers = Flow {
            blocked: true,
            ..Flow::default()
        };
        for other in self.others(id) {
            self.cluster.net.rule(
                (other, id),
                Rule {
                    answers,
                    ..Rule::default()
                },
            );
        }
        self.pass(1_500, 3_000).await;
        self.cluster.net.heal();
        Ok(self.held(vec![id], ""))
    }

    pub(super) async fn ring(&mut self) -> anyhow::Result<Held> {
        let mut ids = self.cluster.ids();
        self.random.shuffle(&mut ids);
        let dead = self.dead();
        let next = |id: u64| {
            let at = ids.iter().position(|other| *other == id).expect("a member");
            ids[(at + 1) % ids.len()]
        };
        for (from, to) in self.links() {
            if next(from) != to {
                self.cluster.net.rule((from, to), dead);
            }
        }
        self.pass(1_500, 3_000).await;
        self.cluster.net.heal();
        Ok(self.held(ids, ""))
    }

    pub(super) async fn bridge(&mut self) -> anyhow::Result<Held> {
        let mut ids = self.cluster.ids();
        self.random.shuffle(&mut ids);
        let dead = self.dead();
        let (one, other) = (ids[0], ids[1]);
        self.cluster.net.rule((one, other), dead);
        self.cluster.net.rule((other, one), dead);
        self.pass(1_500, 4_000).await;
        self.cluster.net.heal();
        Ok(self.held(vec![one, other], ""))
    }

    pub(super) async fn lossy(&mut self) -> anyhow::Result<Held> {
        let lossy = 10 + self.random.below(40);
        for link in self.links() {
            self.cluster.net.rule(
                link,
                Rule {
                    lossy,
                    ..Rule::default()
                },
            );
        }
        self.pass(2_000, 4_000).await;
        self.cluster.net.heal();
        Ok(self.held(
            self.cluster.ids(),
            format!("one piece in {lossy} breaks its connection"),
        ))
    }

    /// For a storm; whoever asks for it heals.
    pub(super) fn lossy_and_slow(&mut self) {
        let most = 5 + self.random.below(20);
        let flow = Flow {
            delay_ms: (0, most),
            ..Flow::default()
        };
        let lossy = 20 + self.random.below(60);
        for link in self.links() {
            let rule = Rule {
                asks: flow,
                answers: flow,
                lossy,
                ..Rule::default()
            };
            self.cluster.net.rule(link, rule);
        }
    }

    pub(super) async fn slow(&mut self) -> anyhow::Result<Held> {
        let most = 10 + self.random.below(40);
        let flow = Flow {
            delay_ms: (most / 2, most),
            ..Flow::default()
        };
        for link in self.links() {
            self.cluster.net.rule(
                link,
                Rule {
                    asks: flow,
                    answers: flow,
                    ..Rule::default()
                },
            );
        }
        self.pass(2_000, 4_000).await;
        self.cluster.net.heal();
        Ok(self.held(
            self.cluster.ids(),
            format!("{} to {most} ms each way", most / 2),
        ))
    }

    pub(super) async fn narrow(&mut self) -> anyhow::Result<Held> {
        let id = self.target(true).await?;
        let flow = Flow {
            bytes_per_s: Some(100_000 + self.random.below(200_000)),
            ..Flow::default()
        };
        for other in self.others(id) {
            for link in [(id, other), (other, id)] {
                self.cluster.net.rule(
                    link,
                    Rule {
                        asks: flow,
                        answers: flow,
                        ..Rule::default()
                    },
                );
            }
        }
        self.pass(2_000, 4_000).await;
        self.cluster.net.heal();
        Ok(self.held(
            vec![id],
            format!("{} bytes a second", flow.bytes_per_s.unwrap_or_default()),
        ))
    }
}
