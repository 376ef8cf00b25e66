//! What travels between nodes, and how each message proves where it comes from.
//!
//! A frame is `mac (32) | header | body`. The header names the cluster, the sender and the receiver, each node by its id
//! *and* by the incarnation of its disk; the MAC is a BLAKE3 keyed hash over header and body under a key derived from
//! the cluster's secret. A response's MAC also covers the request's, so that an answer cannot be passed off as the
//! answer to something else. The receiver refuses, in this order: a wrong MAC, another protocol version, another
//! cluster, another node or disk than it is, a sender that was removed or whose disk the cluster does not know.
//!
//! The transport is not encrypted: peers belong on a private network or a tunnel. A recorded answer fits no later
//! request, since each has a nonce of its own. A recorded request can be sent again, and does what a retry does: Raft's
//! messages are idempotent by term and index, commands by their own key, changes of the membership by node id, because
//! an id that was removed never returns.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec;
use crate::runtime::random_u128;
use crate::types::{NodeId, StorageId};

/// The version of the protocol between peers.
const PROTOCOL: u16 = 1;
const MAC_BYTES: usize = 32;
const KEY_CONTEXT: &str = "mesto 2026 peer frames";

/// The key of all frames, derived from the cluster's secret. Never shown.
#[derive(Clone)]
pub struct ClusterKey([u8; 32]);

impl ClusterKey {
    /// Derives the key from the secret that all nodes of a cluster share.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(blake3::derive_key(KEY_CONTEXT, secret))
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}

/// Names a cluster: made at random when it is bootstrapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One end of a message: a node and the incarnation of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Party {
    pub(crate) node: NodeId,
    pub(crate) storage: StorageId,
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    AppendEntries,
    Vote,
    PreVote,
    TransferLeader,
    SnapshotChunk,
    /// Commands for the leader to propose; one hop, never forwarded again.
    Propose,
    /// The leader's read index.
    ReadIndex,
    /// What this node is and has; answered to a node of the same secret even before there is a cluster.
    Identify,
    /// The node's place in the cluster, for the status page.
    Status,
    /// An operator's request, for the leader to carry out.
    Control,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    protocol: u16,
    /// Drawn for each request, so that no recorded answer can pass for the answer to a later one.
    nonce: u128,
    pub(crate) kind: Kind,
    /// Absent only in `Identify`.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) from: Party,
    /// The receiver's disk is not known yet in `Identify`.
    pub(crate) to: NodeId,
    pub(crate) to_storage: Option<StorageId>,
    body: Bytes,
}

impl Header {
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Why a receiver refused a message. Refusals are authenticated like answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    #[error("the peer speaks another version of the protocol")]
    Protocol,
    /// It belongs to another cluster.
    #[error("the peer belongs to another cluster")]
    Cluster,
    /// It is another node than was meant.
    #[error("the peer is another node")]
    Node,
    /// It has another disk than the cluster knows it by: it was wiped or replaced.
    #[error(
        "the peer has another disk than the cluster knows: it was wiped, and must join under a new id"
    )]
    Storage,
    /// The sender was removed from the cluster.
    #[error("this node was removed from the cluster")]
    Removed,
    /// The sender's disk is not the one that the cluster knows it by.
    #[error("this node's disk is not the one that the cluster knows")]
    Sender,
    /// It has not been started yet, or is stopping.
    #[error("the peer is not running")]
    NotRunning,
    /// The body does not decode.
    #[error("the peer could not read the message")]
    Malformed,
}

/// Why a frame is not accepted at all.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("the frame is not authentic")]
    NotAuthentic,
    #[error("the frame is malformed: {0}")]
    Malformed(#[from] codec::CodecError),
}

/// A sealed request, and what is needed to open its answer.
pub(crate) struct Sealed {
    pub(crate) frame: Bytes,
    mac: [u8; MAC_BYTES],
}

pub(crate) fn seal_request(
    key: &ClusterKey,
    kind: Kind,
    cluster: Option<ClusterId>,
    from: Party,
    to: NodeId,
    to_storage: Option<StorageId>,
    body: Vec<u8>,
) -> Sealed {
    let header = Header {
        protocol: PROTOCOL,
        nonce: random_u128(),
        kind,
        cluster,
        from,
        to,
        to_storage,
        body: Bytes::from(body),
    };
    let payload = codec::encode(&header);
    let mac = *blake3::keyed_hash(&key.0, &payload).as_bytes();
    Sealed {
        frame: join(&mac, &payload),
        mac,
    }
}

/// A frame whose MAC is right, around whatever `payload` is; for fuzzing.
pub(crate) fn authentic(key: &ClusterKey, payload: &[u8]) -> Bytes {
    join(blake3::keyed_hash(&key.0, payload).as_bytes(), payload)
}

/// An authentic request, with the MAC that its answer must be bound to.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) header: Header,
    mac: [u8; MAC_BYTES],
}

/// Opens a request. The protocol version is checked by the receiver, so that it can say so.
pub(crate) fn open_request(key: &ClusterKey, frame: &[u8]) -> Result<Request, FrameError> {
    let (mac, payload) = split(frame)?;
    if blake3::keyed_hash(&key.0, payload) != blake3::Hash::from_bytes(mac) {
        return Err(FrameError::NotAuthentic);
    }
    Ok(Request {
        header: codec::decode(payload)?,
        mac,
    })
}

impl Request {
    pub(crate) fn speaks_our_protocol(&self) -> bool {
        self.header.protocol == PROTOCOL
    }

    /// Seals the answer to this request.
    pub(crate) fn seal_answer(&self, key: &ClusterKey, answer: Result<Vec<u8>, Refusal>) -> Bytes {
        let payload = codec::encode(&answer.map(Bytes::from));
        let mac = answer_mac(key, &self.mac, &payload);
        join(mac.as_bytes(), &payload)
    }
}

impl Sealed {
    /// Opens the answer to this request.
    pub(crate) fn open_answer(
        &self,
        key: &ClusterKey,
        frame: &[u8],
    ) -> Result<Result<Bytes, Refusal>, FrameError> {
        let (mac, payload) = split(frame)?;
        if answer_mac(key, &self.mac, payload) != blake3::Hash::from_bytes(mac) {
            return Err(FrameError::NotAuthentic);
        }
        Ok(codec::decode(payload)?)
    }
}

fn answer_mac(key: &ClusterKey, request_mac: &[u8; MAC_BYTES], payload: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(b"answer");
    hasher.update(request_mac);
    hasher.update(payload);
    hasher.finalize()
}

fn join(mac: &[u8; MAC_BYTES], payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(MAC_BYTES + payload.len());
    frame.extend_from_slice(mac);
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

fn split(frame: &[u8]) -> Result<([u8; MAC_BYTES], &[u8]), FrameError> {
    let (mac, payload) = frame
        .split_first_chunk::<MAC_BYTES>()
        .ok_or(FrameError::NotAuthentic)?;
    Ok((*mac, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(node: NodeId) -> Party {
        Party {
            node,
            storage: StorageId(u128::from(node) << 64),
        }
    }

    fn sealed(key: &ClusterKey) -> Sealed {
        seal_request(
            key,
            Kind::Vote,
            Some(ClusterId(9)),
            party(1),
            2,
            Some(StorageId(7)),
            vec![1, 2, 3],
        )
    }

    #[test]
    fn a_request_and_its_answer_travel() {
        let key = ClusterKey::from_secret(b"secret");
        let sealed = sealed(&key);
        let request = open_request(&key, &sealed.frame).expect("an authentic request");
        assert!(request.speaks_our_protocol());
        assert_eq!(request.header.kind, Kind::Vote);
        assert_eq!(request.header.from, party(1));
        assert_eq!(&request.header.body()[..], [1, 2, 3]);
        let answer = request.seal_answer(&key, Ok(vec![4]));
        assert_eq!(
            sealed
                .open_answer(&key, &answer)
                .expect("an authentic answer"),
            Ok(Bytes::from_static(&[4]))
        );
        let refusal = request.seal_answer(&key, Err(Refusal::Storage));
        assert_eq!(
            sealed
                .open_answer(&key, &refusal)
                .expect("an authentic refusal"),
            Err(Refusal::Storage)
        );
    }

    #[test]
    fn another_secret_or_a_changed_byte_is_not_authentic() {
        let key = ClusterKey::from_secret(b"secret");
        let frame = sealed(&key).frame;
        let other = ClusterKey::from_secret(b"another");
        assert!(matches!(
            open_request(&other, &frame),
            Err(FrameError::NotAuthentic)
        ));
        for at in 0..frame.len() {
            let mut changed = frame.to_vec();
            changed[at] ^= 1;
            assert!(
                matches!(open_request(&key, &changed), Err(FrameError::NotAuthentic)),
                "byte {at}"
            );
        }
        assert!(open_request(&key, &frame[..MAC_BYTES - 1]).is_err());
    }

    #[test]
    fn an_answer_belongs_to_one_request() {
        let key = ClusterKey::from_secret(b"secret");
        let first = sealed(&key);
        let second = seal_request(
            &key,
            Kind::PreVote,
            Some(ClusterId(9)),
            party(1),
            2,
            None,
            vec![1, 2, 3],
        );
        let request = open_request(&key, &first.frame).expect("an authentic request");
        let answer = request.seal_answer(&key, Ok(vec![]));
        assert!(matches!(
            second.open_answer(&key, &answer),
            Err(FrameError::NotAuthentic)
        ));
    }

    #[test]
    fn an_answer_to_the_same_request_sent_earlier_is_not_authentic() {
        let key = ClusterKey::from_secret(b"secret");
        let (earlier, later) = (sealed(&key), sealed(&key));
        let request = open_request(&key, &earlier.frame).expect("an authentic request");
        let answer = request.seal_answer(&key, Ok(vec![]));
        assert!(matches!(
            later.open_answer(&key, &answer),
            Err(FrameError::NotAuthentic)
        ));
    }

    #[test]
    fn the_key_is_never_shown() {
        assert_eq!(
            format!("{:?}", ClusterKey::from_secret(b"secret")),
            "ClusterKey(…)"
        );
    }
}
