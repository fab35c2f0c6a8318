//! A node: the chain on disk, consensus, and JSON-RPC.
//!
//! ```text
//! HTTP ──▶ rpc ──submit──▶ mempool ──▶ consensus ──▶ Chain::propose, validate ──▶ Store::commit (one durable transaction)
//!              ◀──queries── Chain (read lock)                                   └▶ Chain::commit ──▶ answers
//! ```

mod consensus;
mod history;
mod mempool;
mod metrics;
mod peer;
mod ports;
mod quota;
mod rpc;
mod server;
mod service;
mod shared;
mod snapshot;
mod store;
mod subscribe;

#[cfg(feature = "faults")]
pub use consensus::Fault;
#[cfg(feature = "fuzz")]
pub use consensus::untrusted;
pub use consensus::{
    ConsensusError, ConsensusFilesError, ConsensusReport, EngineError, GuardError, KeyStart, LogDamaged,
    LogFault, NotExecuted, UndecidedError,
};
pub use history::{CODE_PRUNED, History};
pub use peer::{Peer, PeerError};
pub use ports::free_addrs;
pub use rpc::{
    CODE_BUSY, CODE_INTERNAL, CODE_POOL, CODE_REJECTED, MAX_ANSWER_BYTES, MAX_BATCH, MAX_BODY_BYTES, openrpc,
};
pub use server::{NoPlace, ServiceLimits};
pub use service::{NetworkConfig, Node, NodeConfig, NodeError};
pub use snapshot::{
    JoinError, PeerSnapshot, SnapshotFile, SnapshotFileError, SnapshotSource, SnapshotsView, join,
};
pub use store::{
    ArchiveError, CheckError, CheckOptions, CheckReport, ImportReport, PastError, RestoreError, Store,
    StoreError,
};

/// Filters for logs, to stand before an operator's own: the engine tells each step of each round, and a validator without peers
/// that it has none.
pub const LOG_FILTERS: &str = "arc_malachitebft=warn,arc_malachitebft_network=off,libp2p=warn";
