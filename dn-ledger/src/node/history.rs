//! What a node keeps of the past: snapshots at intervals, and blocks back to a horizon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::shared::Shared;
use super::snapshot::SnapshotFile;

/// A height below the first that the node holds; `data` is [`Pruned`](crate::views::Pruned).
pub const CODE_PRUNED: i64 = -32_003;

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// What a node keeps of the past. The default keeps every block and writes no snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Blocks behind the tip that are kept; all if none is set. The state is always whole.
    pub keep_blocks: Option<u64>,
    /// A snapshot is written whenever this many blocks have passed; none are if it is not set.
    pub snapshot_blocks: Option<u64>,
    /// Snapshots that are kept, the newest; at least one.
    pub keep_snapshots: usize,
}

/// Prunes and writes snapshots until the node stops.
pub(super) async fn keep(
    shared: Arc<Shared>,
    dir: PathBuf,
    history: History,
    mut stopped: watch::Receiver<bool>,
) {
    show_first(&shared);
    if history.keep_blocks.is_none() && history.snapshot_blocks.is_none() {
        return;
    }
    SnapshotFile::remove_parts(&dir);
    // The interval in which a snapshot failed: the next one tries again.
    let mut failed = None;
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => return,
        }
        let (shared, dir) = (Arc::clone(&shared), dir.clone());
        // A panic there was reported when it happened; the next look tries again.
        failed =
            tokio::task::spawn_blocking(move || look(&shared, &dir, history, failed)).await.unwrap_or(failed);
    }
}

/// Tells the metrics where the past begins.
fn show_first(shared: &Shared) {
    match shared.store.horizon() {
        Ok(first) => {
            shared.metrics.first_block.set(i64::try_from(first).unwrap_or(i64::MAX));
        }
        Err(error) => tracing::error!(%error, "the first block that is held is not known"),
    }
}

/// Prunes, and writes a snapshot if one is due; gives the interval whose snapshot failed.
fn look(shared: &Shared, dir: &std::path::Path, history: History, failed: Option<u64>) -> Option<u64> {
    let height = shared.chain().tip().height;
    if let Some(keep) = history.keep_blocks {
        if let Err(error) = shared.store.prune((height + 1).saturating_sub(keep.max(1))) {
            tracing::error!(%error, "old blocks are not pruned");
        }
        show_first(shared);
    }
    let every = history.snapshot_blocks?;
    let interval = height / every.max(1);
    let last = match SnapshotFile::list(dir) {
        Ok(heights) => heights.last().copied().unwrap_or(0),
        Err(error) => {
            tracing::error!(%error, "snapshots cannot be listed");
            return failed;
        }
    };
    if height == 0 || interval == last / every.max(1) || failed == Some(interval) {
        return failed;
    }
    match shared
        .store
        .export()
        .map_err(|e| e.to_string())
        .and_then(|export| SnapshotFile::write(dir, &export).map_err(|e| e.to_string()))
    {
        Ok(path) => tracing::info!(path = %path.display(), "snapshot written"),
        Err(error) => {
            tracing::error!(%error, "no snapshot written; the next is due in at most {every} blocks");
            return Some(interval);
        }
    }
    let heights = SnapshotFile::list(dir).unwrap_or_default();
    let old = heights.len().saturating_sub(history.keep_snapshots.max(1));
    for height in &heights[..old] {
        let _ = std::fs::remove_file(SnapshotFile::path(dir, *height));
    }
    None
}
