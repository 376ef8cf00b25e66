//! Is there an order that explains all answers of one object? Wing and Gong's search with Lowe's memory.
//!
//! Calls and returns stand in a linked list by time. The search takes an operation whose call comes before the first
//! return in the list, if it is possible in the present state, lifts it off the list and goes on from the new state. If
//! it comes to a return it cannot pass without taking that operation, it puts the last one back and tries the
//! next. A configuration, that is which operations were taken and in which state that has ended, is never tried twice.
//!
//! Three things keep it fast:
//! - A read that is possible is taken at once and never reconsidered: it changes nothing, so whatever can
//!   follow without it can follow with it.
//! - What must happen is tried before what only may have happened (unknown operations, which have no return, and stand in
//!   a list of their own). Of these, only those that change something are tried.
//! - A configuration is remembered as 128 bits, the sum of one random number for each operation taken. If
//!   two configurations collided, a history might be refused that is fine; the chance, for the billion
//!   configurations of a budget, is below 10⁻²⁰.

use std::collections::HashSet;
use std::hash::Hash;

/// What operations do to an object of one kind.
pub(crate) trait Step {
    /// The state of an object.
    type State: Copy + Eq + Hash + std::fmt::Debug;
    /// The first state.
    const START: Self::State;
    /// The state after it; `None` where it cannot have been answered as it was.
    fn apply(&self, state: Self::State) -> Option<Self::State>;
    /// Whether it never changes the state.
    fn is_read(&self) -> bool;
}

/// One operation's part in an object.
#[derive(Clone, Debug)]
pub(crate) struct Item<S> {
    /// Which operation.
    pub(crate) operation: usize,
    /// From when.
    pub(crate) call: u64,
    /// Until when; `None` if it may also never happen. Equal to another's call, they are concurrent.
    pub(crate) answer: Option<u64>,
    /// What it does.
    pub(crate) step: S,
}

/// What came of a search.
#[derive(Debug)]
pub(crate) enum Found<T = String> {
    /// There is an order.
    Order,
    /// There is none.
    Stuck(Stuck<T>),
    /// Not known.
    OutOfBudget,
}

/// The furthest that any order comes.
#[derive(Debug)]
pub(crate) struct Stuck<T> {
    /// The item (its number) which no order reaches in time.
    pub(crate) item: usize,
    /// A state in which it was found impossible.
    pub(crate) state: T,
}

/// Looks for an order of `items`. Each step costs one of `budget`.
pub(crate) fn search<S: Step>(items: &[Item<S>], budget: &mut u64) -> Found<S::State> {
    let mut run = Run::new(items);
    while run.must_left > 0 {
        if *budget == 0 {
            return Found::OutOfBudget;
        }
        *budget -= 1;
        if let Some(stuck) = run.step() {
            return Found::Stuck(stuck);
        }
    }
    Found::Order
}

/// A search under way.
struct Run<'a, S: Step> {
    items: &'a [Item<S>],
    list: List,
    /// Configurations that were tried.
    seen: HashSet<(u128, S::State)>,
    /// What was taken, in order.
    taken: Vec<Taken<S::State>>,
    must_left: usize,
    state: S::State,
    configuration: u128,
    turn: Turn,
    /// The node that is looked at next.
    at: usize,
    /// The first return in the list, once it is known.
    first_return: usize,
    furthest: Option<(u64, Stuck<S::State>)>,
}

/// An operation that was taken.
struct Taken<T> {
    item: usize,
    before: T,
    turn: Turn,
    first_return: usize,
}

/// Which operations are looked at in a pass over the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Reads,
    Must,
    May,
}

impl<'a, S: Step> Run<'a, S> {
    fn new(items: &'a [Item<S>]) -> Self {
        let list = List::of(items);
        Self {
            items,
            seen: HashSet::new(),
            taken: Vec::new(),
            must_left: items.iter().filter(|item| item.answer.is_some()).count(),
            state: S::START,
            configuration: 0,
            turn: Turn::Reads,
            at: list.nodes[MUST].next,
            first_return: MUST,
            furthest: None,
            list,
        }
    }

    /// Looks at one node. Gives the end of it if there is no order.
    fn step(&mut self) -> Option<Stuck<S::State>> {
        let Node {
            item,
            is_return,
            next,
            ..
        } = self.list.nodes[self.at];
        match self.turn {
            Turn::Reads if is_return => self.begin(Turn::Must),
            Turn::Must if is_return => {
                self.first_return = self.at;
                self.begin(Turn::May);
            }
            // Nodes are numbered by time, so what is beyond the first return has a greater number.
            Turn::May if self.at == MAY || self.at > self.first_return => {
                self.note_stuck();
                return self.go_back();
            }
            turn => match self.possible(turn, item) {
                Some(after) => self.take(item, after),
                None => self.at = next,
            },
        }
        None
    }

    fn begin(&mut self, turn: Turn) {
        let list = if turn == Turn::May { MAY } else { MUST };
        (self.turn, self.at) = (turn, self.list.nodes[list].next);
    }

    /// The state after `item`, if this is its turn, it is possible, and leads anywhere new.
    fn possible(&mut self, turn: Turn, item: usize) -> Option<S::State> {
        let step = &self.items[item].step;
        if step.is_read() != (turn == Turn::Reads) {
            return None;
        }
        let after = step.apply(self.state)?;
        match turn {
            Turn::Reads => Some(after),
            Turn::May if after == self.state => None,
            Turn::Must | Turn::May => {
                let reached = self.configuration.wrapping_add(mark(item));
                self.seen.insert((reached, after)).then_some(after)
            }
        }
    }

    fn take(&mut self, item: usize, after: S::State) {
        let previous = self.list.nodes[self.at].previous;
        self.taken.push(Taken {
            item,
            before: self.state,
            turn: self.turn,
            first_return: self.first_return,
        });
        self.list.lift(item);
        self.must_left -= usize::from(self.items[item].answer.is_some());
        self.configuration = self.configuration.wrapping_add(mark(item));
        self.state = after;
        match self.turn {
            Turn::Reads => self.at = self.list.nodes[previous].next,
            Turn::Must | Turn::May => self.begin(Turn::Reads),
        }
    }

    fn note_stuck(&mut self) {
        let item = self.list.nodes[self.first_return].item;
        let time = self.items[item].answer.expect("it has a return");
        if self
            .furthest
            .as_ref()
            .is_none_or(|(latest, _)| time > *latest)
        {
            let state = self.state;
            self.furthest = Some((time, Stuck { item, state }));
        }
    }

    /// Puts back what was taken last, and the reads that followed from it. If nothing was taken, there is no order.
    fn go_back(&mut self) -> Option<Stuck<S::State>> {
        loop {
            let Some(last) = self.taken.pop() else {
                return self.furthest.take().map(|(_, stuck)| stuck);
            };
            self.list.put_back(last.item);
            self.must_left += usize::from(self.items[last.item].answer.is_some());
            self.configuration = self.configuration.wrapping_sub(mark(last.item));
            self.state = last.before;
            if last.turn != Turn::Reads {
                (self.turn, self.first_return) = (last.turn, last.first_return);
                self.at = self.list.nodes[self.list.call_of[last.item]].next;
                return None;
            }
        }
    }
}

/// Two lists, each a ring: calls and returns of what must happen, and calls of what may, both by time, with what was taken
/// lifted off. Node 0 heads the first, node 1 the second; the others are numbered by time.
struct List {
    nodes: Vec<Node>,
    call_of: Vec<usize>,
    return_of: Vec<Option<usize>>,
}

const MUST: usize = 0;
const MAY: usize = 1;

#[derive(Clone, Copy)]
struct Node {
    item: usize,
    is_return: bool,
    previous: usize,
    next: usize,
}

impl List {
    fn of<S>(items: &[Item<S>]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(items.len() * 2);
        for (number, item) in items.iter().enumerate() {
            events.push((item.call, false, number));
            events.extend(item.answer.map(|answer| (answer, true, number)));
        }
        // At one tick, calls come before returns: what touches is concurrent.
        events.sort_unstable();
        let head = |number| Node {
            item: 0,
            is_return: false,
            previous: number,
            next: number,
        };
        let mut list = Self {
            nodes: vec![head(MUST), head(MAY)],
            call_of: vec![0; items.len()],
            return_of: vec![None; items.len()],
        };
        for (_, is_return, item) in events {
            let ring = if items[item].answer.is_some() {
                MUST
            } else {
                MAY
            };
            let (number, previous) = (list.nodes.len(), list.nodes[ring].previous);
            list.nodes.push(Node {
                item,
                is_return,
                previous,
                next: ring,
            });
            list.link(number);
            if is_return {
                list.return_of[item] = Some(number);
            } else {
                list.call_of[item] = number;
            }
        }
        list
    }

    fn lift(&mut self, item: usize) {
        self.unlink(self.call_of[item]);
        if let Some(node) = self.return_of[item] {
            self.unlink(node);
        }
    }

    /// The reverse of the last [`List::lift`] that was not reversed yet.
    fn put_back(&mut self, item: usize) {
        if let Some(node) = self.return_of[item] {
            self.link(node);
        }
        self.link(self.call_of[item]);
    }

    fn unlink(&mut self, node: usize) {
        let Node { previous, next, .. } = self.nodes[node];
        self.nodes[previous].next = next;
        self.nodes[next].previous = previous;
    }

    fn link(&mut self, node: usize) {
        let Node { previous, next, .. } = self.nodes[node];
        self.nodes[previous].next = node;
        self.nodes[next].previous = node;
    }
}

/// A fixed random number for each item (two rounds of SplitMix64).
fn mark(item: usize) -> u128 {
    let seed = item as u64 * 2;
    u128::from(mixed(seed)) << 64 | u128::from(mixed(seed + 1))
}

fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
