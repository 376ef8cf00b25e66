//! What was applied, by every node, entry by entry: the strongest thing that can be compared.
//!
//! Every node's application is wrapped. For each log index the first node to apply it writes down the command, the
//! replicated time and the reply; every other node, and the same one after each restart, must come to the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesto::booking::command::{DedupKey, Envelope};
use mesto::booking::{decode_reply, reply::Reply};
use mesto_raft::{App, NodeId, Stamp};
use mesto_storage::Transaction;
use parking_lot::Mutex;

use crate::coverage::Event;
use crate::shared::{Shared, note};

/// What an entry was and came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    command: [u8; 16],
    now_ms: u64,
    reply: [u8; 16],
    by: NodeId,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<u64, Entry>,
    /// Where each command's key was met first.
    keys: BTreeMap<DedupKey, u64>,
}

/// What was applied in a run.
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    book: Mutex<Book>,
}

impl Ledger {
    /// Nothing yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            book: Mutex::default(),
        }
    }

    /// The last index that anyone applied.
    pub(crate) fn last(&self) -> u64 {
        let book = self.book.lock();
        book.entries.last_key_value().map_or(0, |(index, _)| *index)
    }

    fn enter(&self, node: NodeId, stamp: Stamp, command: &[u8], reply: &[u8]) {
        let mut book = self.book.lock();
        let entry = Entry {
            command: hash(command),
            now_ms: stamp.now_ms,
            reply: hash(reply),
            by: node,
        };
        if let Some(first) = book.entries.get(&stamp.index).copied() {
            let what = match entry {
                Entry { command, .. } if command != first.command => "another command",
                Entry { now_ms, .. } if now_ms != first.now_ms => "at another replicated time",
                Entry { reply, .. } if reply != first.reply => "with another reply",
                _ => return,
            };
            self.shared.fail(
                "equal application",
                format!(
                    "node {node} applied entry {} {what} than node {} had",
                    stamp.index, first.by
                ),
            );
            return;
        }
        let before = book
            .entries
            .range(..stamp.index)
            .next_back()
            .map(|(_, entry)| entry.now_ms);
        if before.is_some_and(|before| before > stamp.now_ms) {
            self.shared.fail(
                "replicated time",
                format!("it ran backwards at entry {}", stamp.index),
            );
        }
        book.entries.insert(stamp.index, entry);
        self.look_at(&mut book, stamp.index, command, reply);
    }

    /// Counts what is worth counting.
    fn look_at(&self, book: &mut Book, index: u64, command: &[u8], reply: &[u8]) {
        let Ok(Envelope { dedup, .. }) = Envelope::decode(command) else {
            self.shared
                .fail("nothing unasked", format!("entry {index} is no command"));
            return;
        };
        if book.keys.insert(dedup, index).is_some() {
            self.shared.count(Event::EntryRepeated);
        }
        let Ok(Reply { replayed, .. }) = decode_reply(reply) else {
            self.shared
                .fail("equal application", format!("entry {index} has no reply"));
            return;
        };
        if replayed {
            self.shared.count(Event::AnsweredFromMemory);
        }
    }
}

/// An application whose every step is entered into the ledger.
pub(crate) struct Entered {
    pub(crate) app: Arc<dyn App>,
    pub(crate) node: NodeId,
    pub(crate) ledger: Arc<Ledger>,
}

impl App for Entered {
    fn apply(&self, transaction: &mut Transaction, stamp: Stamp, command: &[u8]) -> Vec<u8> {
        let reply = self.app.apply(transaction, stamp, command);
        // A read that failed is latched: the group will not be committed, and the node stops.
        if transaction.error().is_none() {
            self.ledger.enter(self.node, stamp, command, &reply);
        } else {
            note!(
                self.ledger.shared,
                "node {} could not read what entry {} needs",
                self.node,
                stamp.index
            );
        }
        reply
    }
}

fn hash(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    half
}
