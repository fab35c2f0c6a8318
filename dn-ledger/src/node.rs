//! A node: the chain on disk, block production, and JSON-RPC.
//!
//! ```text
//! HTTP ──▶ rpc ──submit──▶ producer ──▶ mempool ──▶ Chain::propose ──▶ Store::commit (one durable transaction)
//!              ◀──queries── Chain (read lock)                          └▶ Chain::commit ──▶ answers
//! ```

mod history;
mod mempool;
mod peer;
mod producer;
mod quota;
mod rpc;
mod server;
mod service;
mod snapshot;
mod store;
mod subscribe;

pub use history::History;
pub use peer::{Peer, PeerError};
pub use rpc::{CODE_BUSY, CODE_INTERNAL, CODE_REJECTED, MAX_BATCH, MAX_BODY_BYTES};
pub use service::{Node, NodeConfig, NodeError};
pub use snapshot::{
    JoinError, PeerSnapshot, SnapshotFile, SnapshotFileError, SnapshotSource, SnapshotsView, join,
};
pub use store::{ArchiveError, CheckError, CheckReport, ImportReport, RestoreError, Store, StoreError};
