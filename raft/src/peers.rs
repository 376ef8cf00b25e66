//! Calling another node: who we are, whom we mean, and what may be concluded when no answer comes.

use std::sync::Arc;
use std::time::Duration;

use mesto_storage::Log;
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::codec;
use crate::log_store::{MetaError, put_meta};
use crate::transport::{Lane, Transport, TransportError};
use crate::types::{Member, NodeId, StorageId};
use crate::wire::{self, ClusterId, ClusterKey, Kind, Party, Refusal};

const CLUSTER_META: &str = "cluster";
const FOUNDED_META: &str = "founded";
const NODE_META: &str = "node";

/// Who this node is: its id, the incarnation of its disk, and the cluster that it belongs to, once it does.
pub(crate) struct Identity {
    pub(crate) party: Party,
    cluster: RwLock<Option<ClusterId>>,
    joining: tokio::sync::Mutex<()>,
    log: Log,
}

/// Why a node may not run on this disk under this id.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    #[error("this disk belongs to node {stored}, not to node {given}")]
    OtherNode { stored: NodeId, given: NodeId },
    #[error("this disk belongs to another cluster")]
    OtherCluster,
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Identity {
    /// Reads who this disk belongs to; a fresh disk is claimed for `node`.
    pub(crate) async fn open(
        log: Log,
        node: NodeId,
        storage: StorageId,
    ) -> Result<Self, IdentityError> {
        match crate::log_store::get_meta::<NodeId>(&log, NODE_META)? {
            Some(stored) if stored != node => {
                return Err(IdentityError::OtherNode {
                    stored,
                    given: node,
                });
            }
            Some(_) => {}
            None => put_meta(&log, NODE_META, &node).await?,
        }
        let cluster = RwLock::new(crate::log_store::get_meta(&log, CLUSTER_META)?);
        Ok(Self {
            party: Party { node, storage },
            cluster,
            joining: tokio::sync::Mutex::default(),
            log,
        })
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.read()
    }

    /// Makes this disk a part of `cluster`, for good; refuses where it is a part of another one.
    pub(crate) async fn join(&self, cluster: ClusterId) -> Result<(), IdentityError> {
        let _one_at_a_time = self.joining.lock().await;
        match self.cluster() {
            Some(ours) if ours == cluster => Ok(()),
            Some(_) => Err(IdentityError::OtherCluster),
            None => {
                put_meta(&self.log, CLUSTER_META, &cluster).await?;
                *self.cluster.write() = Some(cluster);
                Ok(())
            }
        }
    }

    /// The cluster whose bootstrap was begun here.
    pub(crate) fn founded(&self) -> Result<Option<ClusterId>, MetaError> {
        crate::log_store::get_meta(&self.log, FOUNDED_META)
    }

    /// Begins the bootstrap of `cluster`, or goes on with one that was begun, and gives its id. That it began here is
    /// stored first: a disk that another node admitted must never be taken for one that may bootstrap.
    pub(crate) async fn found(&self, cluster: ClusterId) -> Result<ClusterId, IdentityError> {
        let cluster = self.founded()?.unwrap_or(cluster);
        put_meta(&self.log, FOUNDED_META, &cluster).await?;
        self.join(cluster).await?;
        Ok(cluster)
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum CallError {
    /// Certainly not delivered.
    #[error(transparent)]
    Unreachable(TransportError),
    /// It may have been carried out.
    #[error(transparent)]
    Lost(TransportError),
    /// Delivered and refused: certainly not carried out.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node belongs to no cluster yet, so it has nothing to say to a peer.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
}

/// Calls to other nodes.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) identity: Arc<Identity>,
    pub(crate) key: ClusterKey,
    transport: Arc<dyn Transport>,
}

impl Peers {
    pub(crate) fn new(
        identity: Arc<Identity>,
        key: ClusterKey,
        transport: Arc<dyn Transport>,
    ) -> Self {
        Self {
            identity,
            key,
            transport,
        }
    }

    /// Asks member `to` for `kind` and waits at most `timeout`.
    pub(crate) async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        lane: Lane,
        kind: Kind,
        to: (NodeId, &Member),
        request: &Q,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let cluster = self.identity.cluster().ok_or(CallError::NoCluster)?;
        let (node, member) = to;
        let addressee = Addressee {
            node,
            storage: Some(member.storage),
            address: &member.peer,
        };
        self.send(
            lane,
            kind,
            Some(cluster),
            addressee,
            codec::encode(request),
            timeout,
        )
        .await
    }

    /// Asks whoever listens at `address` who it is; needs no cluster.
    pub(crate) async fn identify<A: DeserializeOwned>(
        &self,
        node: NodeId,
        address: &str,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let addressee = Addressee {
            node,
            storage: None,
            address,
        };
        self.send(
            Lane::Forward,
            Kind::Identify,
            None,
            addressee,
            codec::encode(&()),
            timeout,
        )
        .await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        lane: Lane,
        kind: Kind,
        cluster: Option<ClusterId>,
        to: Addressee<'_>,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let sealed = wire::seal_request(
            &self.key,
            kind,
            cluster,
            self.identity.party,
            to.node,
            to.storage,
            body,
        );
        let frame = self
            .transport
            .call(lane, to.address, sealed.frame.clone(), timeout)
            .await;
        let frame = frame.map_err(|error| match error {
            TransportError::Unreachable(_) => CallError::Unreachable(error),
            TransportError::Lost(_) => CallError::Lost(error),
        })?;
        // An answer that is not authentic, or not readable, is as good as none.
        let lost = || CallError::Lost(TransportError::Lost(to.address.to_owned()));
        let answer = sealed
            .open_answer(&self.key, &frame)
            .map_err(|_| lost())??;
        codec::decode(&answer).map_err(|_| lost())
    }
}

struct Addressee<'a> {
    node: NodeId,
    storage: Option<StorageId>,
    address: &'a str,
}
