//! Methods of batches, audits, disputes and quality rounds.

use dn_core::BatchId;

use super::params::{AuditFilter, ById, ByParty, ByWorker, Nothing, OneReceipt};
use super::table::Method;
use crate::query;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::query("dn_batch", "A worker's batch with its audits.", |shared, by: ById<BatchId>| {
            Ok(query::batch(shared.chain().state(), by.id))
        }),
        Method::query(
            "dn_batches",
            "A worker's newest batches, the oldest first.",
            |shared, by: ByWorker| {
                Ok(query::batches(shared.chain().state(), by.worker, by.limit.unwrap_or(100)))
            },
        ),
        Method::query("dn_audits", "Auditors' tasks.", |shared, by: AuditFilter| {
            Ok(query::audits(shared.chain().state(), by.auditor, by.open))
        }),
        Method::query(
            "dn_dispute",
            "The dispute about a receipt, if there is or was one.",
            |shared, by: OneReceipt| Ok(query::dispute(shared.chain().state(), by.batch, by.index)),
        ),
        Method::query(
            "dn_disputes",
            "Open disputes, of one party or of all; those that end first come first.",
            |shared, by: ByParty| Ok(query::disputes(shared.chain().state(), by.party)),
        ),
        Method::query("dn_qualityRounds", "The open quality rounds.", |shared, Nothing {}| {
            Ok(query::quality_rounds(shared.chain().state()))
        }),
    ]
}
