//! Queries of the registries: identity, reputation, validation; trust in models; quality rounds.

use dn_core::{Address, Hash32, ModelId, keccak256};
use dn_trust::Unit;

use super::MAX_LIST;
use super::page::{PageError, newest, page};
use crate::state::{
    AUDIT_TASKS, AUDITS, AuditResult, BEACON, ELECTIONS, Election, FEEDBACKS, IDENTITIES, MODEL_REPUTATIONS,
    MODEL_TRUST, PARAMS, QUALITY_ROUNDS, State, TURN_SEEDS, TrustedModel, WORKER_BATCHES, WORKER_FEEDBACK,
    WORKER_REPUTATIONS, WORKER_SEQUENCES,
};
use crate::tx::Role;
use crate::validators::NEXT_SET;
use crate::views::{
    AgentView, BeaconView, ElectionView, FeedbackAuthView, FeedbackView, IndicatorView, ModelTrustView, Page,
    PageRequest, QualityRoundView, ReputationView, ValidationView, ValidationsView,
};

/// The most batches of one page of validations.
const MAX_BATCHES: usize = 16;

/// An address as a decimal number.
pub fn agent_id(address: Address) -> String {
    // Base 10^9 limbs, lowest first.
    let mut limbs = vec![0u64];
    for byte in address.0 {
        let mut carry = u64::from(byte);
        for limb in &mut limbs {
            let value = *limb * 256 + carry;
            (*limb, carry) = (value % 1_000_000_000, value / 1_000_000_000);
        }
        if carry > 0 {
            limbs.push(carry);
        }
    }
    let (top, rest) = limbs.split_last().expect("there is one limb at least");
    rest.iter().rev().fold(top.to_string(), |text, limb| format!("{text}{limb:09}"))
}

/// An identity as an agent; none for an address that never registered.
pub fn agent(state: &State, address: Address) -> Option<AgentView> {
    let held: Vec<_> = Role::ALL
        .into_iter()
        .filter_map(|role| IDENTITIES.get(state, &(role, address)).map(|identity| (role, identity)))
        .collect();
    let (_, first) = held.iter().find(|(_, identity)| !identity.endpoint.is_empty()).or(held.first())?;
    Some(AgentView {
        agent_id: agent_id(address),
        agent_domain: first.name.clone(),
        agent_uri: first.endpoint.clone(),
        agent_address: address,
        roles: held.iter().map(|(role, _)| *role).collect(),
    })
}

/// What payers say of a worker, the newest first.
///
/// # Errors
/// [`PageError`].
pub fn reputation(
    state: &State,
    worker: Address,
    request: &PageRequest,
) -> Result<ReputationView, PageError> {
    let reputation = WORKER_REPUTATIONS.get_or_default(state, &worker);
    let prefix = WORKER_FEEDBACK.prefix_of(&worker);
    let key = |place| (worker, place);
    let bounds = (reputation.count, MAX_LIST);
    let page = newest(
        &WORKER_FEEDBACK,
        &prefix,
        |(_, place)| *place,
        key,
        bounds,
        request,
        |place| {
            let (batch, index) = WORKER_FEEDBACK.get(state, &(worker, place))?;
            let record = FEEDBACKS.get(state, &(batch, index))?;
            Some(FeedbackView {
                client_address: record.payer,
                feedback_auth: FeedbackAuthView { batch, index, signer: record.signer },
                score: record.score,
                tag1: record.tag,
                tag2: record.model,
                feedback_hash: record.uri_hash,
                is_revoked: false,
            })
        },
    )?;
    Ok(ReputationView {
        agent_id: agent_id(worker),
        count: reputation.count,
        average_score: reputation.average().unwrap_or(0),
        feedback: page.items,
        next: page.next,
    })
}

/// The audits of a worker's batches, the newest first; the limit counts batches, at most 16.
///
/// # Errors
/// [`PageError`].
pub fn validations(
    state: &State,
    worker: Address,
    request: &PageRequest,
) -> Result<ValidationsView, PageError> {
    let next = WORKER_SEQUENCES.get_or_default(state, &worker);
    let prefix = WORKER_BATCHES.prefix_of(&worker);
    let (number, key) = (|(_, sequence): &(Address, u64)| *sequence, |sequence| (worker, sequence));
    let page = newest(&WORKER_BATCHES, &prefix, number, key, (next, MAX_BATCHES), request, |sequence| {
        WORKER_BATCHES.get(state, &(worker, sequence))
    })?;
    let tasks = page.items.iter().flat_map(|batch| AUDIT_TASKS.iter_from(state, batch));
    let validations: Vec<_> = tasks
        .map(|((batch, index, validator_address), _)| ValidationView {
            request_hash: Hash32(keccak256(&[&batch.0, &index.to_le_bytes()])),
            validator_address,
            agent_id: agent_id(worker),
            response: AUDITS.get(state, &(batch, index)).and_then(|audit| response(audit.result)),
            tag: "exact-replay".to_owned(),
            batch,
            index,
        })
        .collect();
    let given: Vec<u64> = validations.iter().filter_map(|v| v.response.map(u64::from)).collect();
    let (count, total) = (given.len() as u64, given.iter().sum::<u64>());
    let avg_response = total.checked_div(count).and_then(|mean| u8::try_from(mean).ok()).unwrap_or(0);
    Ok(ValidationsView { agent_id: agent_id(worker), count, avg_response, validations, next: page.next })
}

const fn response(result: Option<AuditResult>) -> Option<u8> {
    match result {
        Some(AuditResult::Passed | AuditResult::Refuted) => Some(100),
        Some(AuditResult::Fraud | AuditResult::Upheld | AuditResult::Unavailable) => Some(0),
        Some(AuditResult::NoAudit | AuditResult::Cancelled) | None => None,
    }
}

/// How far a model is trusted; none for one that never worked.
pub fn model_trust(state: &State, model: ModelId) -> Option<ModelTrustView> {
    let params = PARAMS.get(state, &0).expect("the genesis sets the parameters").trust;
    let TrustedModel { trust, from_epoch, .. } = MODEL_TRUST.get(state, &model)?;
    let i = trust.indicators(&params);
    let named: [(&str, Unit); 4] =
        [("success", i.success), ("feedback", i.feedback), ("demand", i.demand), ("history", i.history)];
    let reputation = MODEL_REPUTATIONS.get_or_default(state, &model);
    Some(ModelTrustView {
        model,
        from_epoch,
        trust: trust.weight(&params),
        indicators: named.map(|(name, value)| IndicatorView { name: name.to_owned(), value }).to_vec(),
        feedback_count: reputation.count,
        feedback_average: reputation.average(),
    })
}

/// The open quality rounds, by id.
///
/// # Errors
/// [`PageError`].
pub fn quality_rounds(state: &State, request: &PageRequest) -> Result<Page<QualityRoundView>, PageError> {
    page(state, &QUALITY_ROUNDS, request, |round, record| {
        Some(QualityRoundView {
            round,
            domain: record.domain,
            owner: record.owner,
            setter: record.setter,
            committee: record.committee.iter().map(|(member, _)| *member).collect(),
            sealed: record.round.is_some(),
            seal_until: record.seal_until,
            commit_until: record.commit_until,
            reveal_until: record.reveal_until,
            open_until: record.open_until,
        })
    })
}

/// The randomness of the tip, and what turns are drawn from.
pub fn beacon(state: &State, height: u64) -> BeaconView {
    let election = ELECTIONS.get(state, &0);
    BeaconView {
        height,
        beacon: BEACON.get_or_default(state, &0),
        turn_seed: TURN_SEEDS.get_or_default(state, &NEXT_SET),
        election: election.map(|Election { last_height, set }| ElectionView { last_height, set }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_number_is_its_address() {
        let mut address = [0; 20];
        assert_eq!(agent_id(Address(address)), "0");
        address[19] = 255;
        assert_eq!(agent_id(Address(address)), "255");
        address[11] = 1;
        assert_eq!(agent_id(Address(address)), (1u128 << 64 | 255).to_string());
        assert_eq!(agent_id(Address([255; 20])), "1461501637330902918203684832716283019655932542975");
    }
}
