//! For fuzzing: every decoder of what comes from peers or from the log. Nothing else uses this.
//!
//! A frame is authentic or refused, so random bytes stop at its MAC. Here they are also put into frames that are
//! authentic: a peer with the right secret and a fault of its own must not take this node down.

use bytes::Bytes;
use mesto_storage::Applied;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::machine::AppliedRecord;
use crate::messages::{
    ControlAnswer, ControlRequest, Introduction, Outcome, PeerStatus, ProposeBatch, SnapshotAnswer,
    SnapshotChunk,
};
use crate::network::TransferLeader;
use crate::submit::Traced;
use crate::types::{Command, Entry, NodeId, StorageId, Types, Vote, decode_entry, encode_entry};
use crate::wire::{self, ClusterId, ClusterKey, Kind, Party};

/// A decoder: takes any bytes, and must neither panic nor allocate much more than it was given. `Err` says which
/// promise was broken.
pub type Target = fn(&[u8]) -> Result<(), String>;

/// Every decoder of this package, by name.
pub const TARGETS: [(&str, Target); 4] = [
    ("peer_frame", peer_frame),
    ("raft_message", raft_message),
    ("log_entry", log_entry),
    ("applied_record", applied_record),
];

const INDEX: u64 = 9;

/// Examples to begin with, for the target `name`: bytes that are decoded.
#[must_use]
pub fn examples(name: &str) -> Vec<Vec<u8>> {
    match name {
        "peer_frame" => {
            let frame = seal(Kind::Propose, codec::encode(&batch()));
            let payload = frame.frame[32..].to_vec();
            vec![frame.frame.to_vec(), payload]
        }
        "raft_message" => messages(),
        "log_entry" => entries()
            .iter()
            .map(|entry| encode_entry(entry).to_vec())
            .collect(),
        "applied_record" => vec![codec::encode(&AppliedRecord::default())],
        _ => Vec::new(),
    }
}

fn key() -> ClusterKey {
    ClusterKey::from_secret(b"a secret for fuzzing")
}

fn party() -> Party {
    Party {
        node: 1,
        storage: StorageId(1),
    }
}

fn seal(kind: Kind, body: Vec<u8>) -> wire::Sealed {
    let cluster = Some(ClusterId(7));
    wire::seal_request(&key(), kind, cluster, party(), 2, Some(StorageId(2)), body)
}

fn batch() -> ProposeBatch {
    let command = Traced {
        request_id: "req_1".into(),
        bytes: Bytes::from_static(b"command"),
    };
    ProposeBatch {
        commands: vec![command],
    }
}

fn entries() -> Vec<Entry> {
    use crate::types::{LogId, Members};
    use openraft::EntryPayload;
    let id = |index| LogId {
        leader_id: 3.into(),
        index,
    };
    let command = Command {
        stamp_ms: 1_700_000_000_000,
        bytes: Bytes::from_static(b"command"),
    };
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(command),
        EntryPayload::Membership(Members::default().to_membership().unwrap_or_default()),
    ];
    payloads
        .into_iter()
        .map(|payload| Entry {
            log_id: id(INDEX),
            payload,
        })
        .collect()
}

fn messages() -> Vec<Vec<u8>> {
    let vote = Vote::new(3, 1);
    let append = AppendEntriesRequest::<Types> {
        vote,
        prev_log_id: None,
        entries: entries(),
        leader_commit: None,
    };
    let bodies = [
        codec::encode(&append),
        codec::encode(&VoteRequest::<Types>::new(vote, None)),
        codec::encode(&batch()),
        codec::encode(&Introduction {
            node: 1,
            storage: StorageId(1),
            cluster: Some(ClusterId(7)),
        }),
        codec::encode(&ControlRequest::AddNode {
            id: 4,
            peer: "127.0.0.1:1".to_owned(),
            http: "127.0.0.1:2".to_owned(),
        }),
    ];
    let numbered = (0_u8..).zip(bodies);
    numbered
        .flat_map(|(_, body)| (0..KINDS).map(move |kind| [vec![kind], body.clone()].concat()))
        .collect()
}

fn peer_frame(bytes: &[u8]) -> Result<(), String> {
    drop(wire::open_request(&key(), bytes));
    // The same bytes behind a MAC that is right.
    let frame = wire::authentic(&key(), bytes);
    if let Ok(request) = wire::open_request(&key(), &frame) {
        let _ours = request.speaks_our_protocol();
        drop(decode::<ProposeBatch>(request.header.body()));
    }
    let asked = seal(Kind::Status, Vec::new());
    drop(asked.open_answer(&key(), bytes));
    Ok(())
}

const KINDS: u8 = 12;

/// The first byte chooses the message, the rest is its body.
fn raft_message(bytes: &[u8]) -> Result<(), String> {
    let Some((kind, body)) = bytes.split_first() else {
        return Ok(());
    };
    match kind % KINDS {
        0 => again::<AppendEntriesRequest<Types>>(body),
        1 => again::<VoteRequest<Types>>(body),
        2 => again::<SnapshotChunk>(body),
        3 => again::<ProposeBatch>(body),
        4 => again::<ControlRequest>(body),
        5 => again::<Introduction>(body),
        6 => again::<PeerStatus>(body),
        7 => again::<Vec<Outcome>>(body),
        8 => again::<SnapshotAnswer>(body),
        9 => again::<AppendEntriesResponse<Types>>(body),
        10 => again::<TransferLeader>(body),
        _ => {
            again::<VoteResponse<Types>>(body)?;
            again::<ControlAnswer>(body)?;
            again::<NodeId>(body)
        }
    }
}

fn log_entry(bytes: &[u8]) -> Result<(), String> {
    let Ok(entry) = decode_entry(INDEX, bytes) else {
        return Ok(());
    };
    let encoded = encode_entry(&entry);
    let decoded = decode_entry(INDEX, &encoded).map_err(|error| error.to_string())?;
    same(&entry, &decoded)
}

fn applied_record(bytes: &[u8]) -> Result<(), String> {
    let applied = Applied {
        record: bytes.to_vec(),
        ..Applied::default()
    };
    if let Ok(record) = AppliedRecord::decode(&applied) {
        let _removed = record.is_removed(1);
    }
    again::<AppliedRecord>(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    codec::decode(bytes).ok()
}

/// What decodes must encode to something that decodes to the same: its encoding must not change a second time.
fn again<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<(), String> {
    let Some(value) = decode::<T>(bytes) else {
        return Ok(());
    };
    let first = codec::encode(&value);
    let value: T = codec::decode(&first).map_err(|error| error.to_string())?;
    same(&first, &codec::encode(&value))
}

fn same<T: PartialEq + std::fmt::Debug>(one: &T, other: &T) -> Result<(), String> {
    if one == other {
        Ok(())
    } else {
        Err(format!("{one:?} came back as {other:?}"))
    }
}
