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
//! - What must happen is tried before what only may have happened (unknown operations, whose returns are never
//!   reached).
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
    let mut list = List::of(items);
    let mut seen: HashSet<(u128, S::State)> = HashSet::new();
    let mut taken: Vec<Taken<S::State>> = Vec::new();
    let (mut state, mut configuration) = (S::START, 0_u128);
    let mut must_left = items.iter().filter(|item| item.answer.is_some()).count();
    let (mut turn, mut at) = (Turn::Reads, list.first());
    let mut furthest: Option<(u64, Stuck<S::State>)> = None;
    while must_left > 0 {
        if *budget == 0 {
            return Found::OutOfBudget;
        }
        *budget -= 1;
        let Node {
            item,
            is_return,
            next,
            ..
        } = list.nodes[at];
        let now = &items[item];
        if is_return {
            if let Some(later) = turn.next() {
                (turn, at) = (later, list.first());
                continue;
            }
            let time = now.answer.expect("it has a return");
            if furthest.as_ref().is_none_or(|(latest, _)| time > *latest) {
                furthest = Some((time, Stuck { item, state }));
            }
            loop {
                let Some(last) = taken.pop() else {
                    let (_, stuck) = furthest.expect("just noted");
                    return Found::Stuck(stuck);
                };
                list.put_back(last.item);
                must_left += usize::from(items[last.item].answer.is_some());
                configuration = configuration.wrapping_sub(mark(last.item));
                state = last.before;
                if last.turn != Turn::Reads {
                    (turn, at) = (last.turn, list.nodes[list.call_of[last.item]].next);
                    break;
                }
            }
            continue;
        }
        let after = if turn == Turn::of(now) {
            now.step.apply(state)
        } else {
            None
        };
        let useful = after.filter(|after| turn != Turn::May || *after != state);
        let Some(after) = useful else {
            at = next;
            continue;
        };
        let reached = configuration.wrapping_add(mark(item));
        if turn != Turn::Reads && !seen.insert((reached, after)) {
            at = next;
            continue;
        }
        let previous = list.nodes[at].previous;
        taken.push(Taken {
            item,
            before: state,
            turn,
        });
        list.lift(item);
        must_left -= usize::from(now.answer.is_some());
        (state, configuration) = (after, reached);
        if turn == Turn::Reads {
            at = list.nodes[previous].next;
        } else {
            (turn, at) = (Turn::Reads, list.first());
        }
    }
    Found::Order
}

/// An operation that was taken.
struct Taken<T> {
    item: usize,
    before: T,
    turn: Turn,
}

/// Which operations are looked at in a pass over the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Reads,
    Must,
    May,
}

impl Turn {
    fn of<S: Step>(item: &Item<S>) -> Self {
        match (item.step.is_read(), item.answer) {
            (true, _) => Self::Reads,
            (false, Some(_)) => Self::Must,
            (false, None) => Self::May,
        }
    }

    fn next(self) -> Option<Self> {
        match self {
            Self::Reads => Some(Self::Must),
            Self::Must => Some(Self::May),
            Self::May => None,
        }
    }
}

/// Calls and returns by time, with what was taken lifted off. The first node is the list's own.
struct List {
    nodes: Vec<Node>,
    call_of: Vec<usize>,
    return_of: Vec<Option<usize>>,
}

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
        let count = events.len() + 1;
        let mut list = Self {
            nodes: Vec::with_capacity(count),
            call_of: vec![0; items.len()],
            return_of: vec![None; items.len()],
        };
        list.nodes.push(Node {
            item: 0,
            is_return: false,
            previous: count - 1,
            next: 1 % count,
        });
        for (number, (_, is_return, item)) in (1..).zip(events) {
            if is_return {
                list.return_of[item] = Some(number);
            } else {
                list.call_of[item] = number;
            }
            list.nodes.push(Node {
                item,
                is_return,
                previous: number - 1,
                next: (number + 1) % count,
            });
        }
        list
    }

    fn first(&self) -> usize {
        self.nodes[0].next
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
