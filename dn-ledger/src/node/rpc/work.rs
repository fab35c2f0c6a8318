//! Methods of batches, audits, disputes and quality rounds.

use dn_core::BatchId;

use super::params::{All, Audits, ById, Disputes, OfWorker, OneReceipt};
use super::table::Method;
use crate::query;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::query("dn_batch", "A worker's batch with its audits.", |shared, by: ById<BatchId>| {
            Ok(query::batch(shared.chain().state(), by.id))
        }),
        Method::query("dn_batches", "A worker's batches, the newest first.", |shared, of: OfWorker| {
            Ok(query::batches(shared.chain().state(), of.worker, &of.page())?)
        }),
        Method::query("dn_audits", "Auditors' tasks.", |shared, of: Audits| {
            Ok(query::audits(shared.chain().state(), of.auditor, of.open, &of.page())?)
        }),
        Method::query(
            "dn_dispute",
            "The dispute about a receipt, if there is or was one.",
            |shared, by: OneReceipt| Ok(query::dispute(shared.chain().state(), by.batch, by.index)),
        ),
        Method::query(
            "dn_disputes",
            "Open disputes, of one party or of all; those that end first come first.",
            |shared, of: Disputes| Ok(query::disputes(shared.chain().state(), of.party, &of.page())?),
        ),
        Method::query("dn_qualityRounds", "The open quality rounds, by id.", |shared, all: All| {
            Ok(query::quality_rounds(shared.chain().state(), &all.page())?)
        }),
    ]
}
