//! Publications and batches that are tried: models with terms, and what is earned with them.

use dn_core::objects::{BatchLine, BatchRoot, ModelManifest, NO_NUMERIC_SPEC, Voucher};
use dn_core::{Amount, Hash32, ModelId, Signed};
use dn_ledger::tx::{
    Admission, BackingTerms, DomainTerms, FeeMove, Licence, NewVersion, Parent, model_commitment,
};
use dn_ledger::{Payload, Role};
use dn_powr::DomainSplit;

use super::publishing::{Both, TAGS, WHO, address_of};
use super::publishing_requests::{Op, Terms, asked, nth};
use crate::common::{CHAIN_ID, dn, key, manifest, price};

/// The models of these tests; every third is one whose results nobody can check.
pub(super) fn published(tag: u8) -> ModelManifest {
    let held = manifest(tag);
    ModelManifest {
        numeric_spec: if tag.is_multiple_of(3) { NO_NUMERIC_SPEC } else { held.numeric_spec },
        ..held
    }
}

/// A fee that no share divides evenly.
fn fee(of: u16) -> Amount {
    Amount::from_atto(u128::from(of) * 3_000_000_000_000_007)
}

/// What a domain's owner may choose, and what it may not.
pub(super) fn terms(preset: u8) -> DomainTerms {
    let split = DomainSplit {
        workers: 4_000,
        validators: 2_501,
        stakers: 500,
        creators: 1_899,
        treasury: 1_000,
        foundation: 100,
    };
    let emission = |split| DomainTerms { emission: Some(split), ..DomainTerms::default() };
    let fees = |worker, owner, validators, domain| DomainTerms {
        fees: Some(FeeMove { worker, owner, validators, domain }),
        ..DomainTerms::default()
    };
    match preset {
        0 | 1 => fees(7_000, 1_201, 1_000, 499),
        2 => fees(5_500, 3_200, 500, 500),
        3 | 10 | 11 => DomainTerms { admission: Admission::Owner, ..fees(5_700, 2_500, 1_500, 0) },
        4 => emission(split),
        5 => fees(8_501, 500, 599, 100),
        6 => fees(7_000, 1_201, 1_000, 500),
        7 => emission(DomainSplit { treasury: 1_001, workers: 3_999, ..split }),
        8 => emission(DomainSplit { foundation: 99, workers: 4_001, ..split }),
        9 => emission(DomainSplit { workers: 4_001, ..split }),
        _ => DomainTerms::default(),
    }
}

fn licence(preset: u8) -> Licence {
    Licence {
        id: if preset == 1 { String::new() } else { "MIT".into() },
        derivatives: preset != 2,
        commercial: preset > 4,
        royalty_bps: if preset == 5 { 5_001 } else { u16::from(preset) * 60 },
    }
}

fn own_fees(preset: u8) -> Option<FeeMove> {
    let four = |worker, owner, validators, domain| Some(FeeMove { worker, owner, validators, domain });
    match preset {
        0 | 1 => four(5_900, 2_399, 901, 500),
        2 => four(5_000, 3_200, 1_000, 500),
        3 => four(4_999, 3_201, 1_000, 500),
        4 => four(5_900, 2_399, 901, 501),
        // Within the bounds, but a little too little for validators or treasury.
        5 => four(5_501, 3_000, 799, 400),
        6 => four(5_901, 2_600, 800, 399),
        _ => None,
    }
}

impl Both {
    /// The `n`-th tag of which nothing is published.
    fn fresh(&self, n: u8) -> u8 {
        let unknown = |tag: &u8| !self.spec.models.contains_key(&self.ids[usize::from(*tag)]);
        (0..TAGS).filter(unknown).nth(n.into()).unwrap_or_default()
    }

    /// An active model owner, mostly.
    fn publisher(&self, who: usize) -> &'static str {
        let active: Vec<_> =
            WHO.into_iter().filter(|name| self.spec.is_active(Role::ModelOwner, address_of(name))).collect();
        WHO.get(who).copied().or(active.get(who % active.len().max(1)).copied()).unwrap_or("owner")
    }

    pub(super) fn salt(tag: u8) -> Hash32 {
        Hash32([tag ^ 0x55; 32])
    }

    pub(super) fn ask_commit(&self, op: &Op) -> (&'static str, Payload) {
        let Op::Commit { who, tag } = op else { unreachable!("the caller looked") };
        let who = self.publisher(*who);
        // Seldom a copy of somebody's, which is of no use to anybody else.
        let copied = self.spec.commitments.keys().next().filter(|_| *tag >= 240).map(|(_, hash)| *hash);
        let tag = usize::from(self.fresh(tag % 5));
        let own = || model_commitment(self.ids[tag], address_of(who), &Self::salt(tag as u8));
        let commitment = copied.unwrap_or_else(own);
        (who, Payload::CommitModel { commitment })
    }

    /// Who publishes which model: where commitments are asked for, mostly somebody that has made one.
    fn author(&self, who: usize, tag: u8, spoil: u8) -> (&'static str, u8) {
        if spoil == 0 {
            return (self.publisher(who), (0..TAGS).rev().find(|n| !self.is_new(*n)).unwrap_or_default());
        }
        let open: Vec<_> = (0..TAGS).filter(|tag| self.is_new(*tag)).collect();
        let promised = |tag: u8| {
            let made = move |name: &&str| {
                let hash = model_commitment(self.ids[usize::from(tag)], address_of(name), &Self::salt(tag));
                self.spec.commitments.contains_key(&(address_of(name), hash))
            };
            WHO.into_iter().filter(made).map(move |name| (name, tag))
        };
        let all: Vec<_> = open.into_iter().flat_map(promised).collect();
        nth(&all, tag).filter(|_| who >= 3).unwrap_or_else(|| (self.publisher(who), self.fresh(tag % 5)))
    }

    fn is_new(&self, tag: u8) -> bool {
        !self.spec.models.contains_key(&self.ids[usize::from(tag)])
    }

    pub(super) fn ask_publish(&self, op: &Op) -> (&'static str, Payload) {
        let Op::Publish { who, tag, plain, domain, spoil, terms } = op else {
            unreachable!("the caller looked")
        };
        let (who, tag) = self.author(*who, *tag, *spoil);
        let mut manifest = published(tag);
        match spoil {
            1 => manifest.block = 0,
            2 => manifest.numeric_spec = 2,
            3 => manifest.hyperparameters.kv_heads = 3,
            4 => manifest.stop_tokens = vec![3, 2],
            5 => manifest.bos_token = Some(manifest.hyperparameters.vocabulary),
            6 => manifest.architecture.clear(),
            _ => {}
        }
        let salt = match spoil {
            7 | 13..16 => None,
            8 | 16..18 => Some(Hash32([1; 32])),
            _ => Some(Self::salt(tag)),
        };
        // Mostly one that takes models.
        let count = self.spec.domains.len() as u32 + 1;
        let open = |id: &u32| self.spec.domain(*id).is_ok();
        let domain = Some(u32::from(*domain) % count).filter(|id| open(id) || *domain == 15).unwrap_or(0);
        let price = if *spoil == 9 { asked(0) } else { price() };
        let name = if *spoil == 10 { "x".repeat(65) } else { "m".into() };
        if *plain {
            return (who, Payload::PublishModel { manifest, name, price, domain, salt });
        }
        let owned = |id: &&ModelId| self.spec.families[*id].owner == address_of(who);
        let own: Vec<_> = self.spec.families.keys().filter(owned).copied().collect();
        let family = match terms.family {
            0 => Some(self.family(tag)),
            1..4 => nth(&own, tag % 2),
            _ => None,
        };
        let backing = match terms.backing {
            0 => Some(BackingTerms { share_bps: 8_001, cap: dn(100) }),
            1 => Some(BackingTerms { share_bps: 4_001, cap: dn(0) }),
            2..9 if family.is_none() || *spoil < 20 => Some(BackingTerms { share_bps: 3_333, cap: dn(60) }),
            _ => None,
        };
        let version = NewVersion {
            family,
            manifest,
            name,
            price,
            domain,
            licence: licence(terms.licence),
            parents: self.parents(terms, *spoil),
            fees: own_fees(terms.fees),
            backing,
            salt,
        };
        (who, Payload::PublishVersion { version })
    }

    fn parents(&self, terms: &Terms, spoil: u8) -> Vec<Parent> {
        let parent = |(n, more): &(u8, u16)| {
            let model = self.model(*n);
            let demanded = self.spec.models.get(&model).map_or(0, |held| held.licence.royalty_bps);
            // Seldom less than what is asked for.
            let share_bps = if more % 16 == 0 { demanded.saturating_sub(1) } else { demanded.max(*more) };
            Parent { model, share_bps }
        };
        let mut parents: Vec<Parent> = terms.parents.iter().map(parent).collect();
        parents.sort_unstable_by_key(|parent| parent.model);
        parents.dedup_by_key(|parent| parent.model);
        match spoil {
            11 | 18..22 => parents.reverse(),
            12 | 22..26 => parents.extend_from_within(..),
            _ => {}
        }
        parents
    }

    // --- batches ---

    pub(super) fn ask_post(
        &self,
        worker: &'static str,
        wanted: &[(u8, u16)],
        spoil: u8,
    ) -> (&'static str, Payload) {
        let hosted = self.spec.offers.keys().filter(|(_, by)| *by == address_of(worker)).map(|(id, _)| *id);
        let mut hosted: Vec<ModelId> = hosted.collect();
        hosted.sort_unstable_by_key(|id| std::cmp::Reverse(self.spec.models[id].published));
        let choose =
            |n: u8| if spoil == 0 || hosted.is_empty() { self.model(n) } else { nth(&hosted, n).unwrap() };
        let exact =
            |id: &ModelId| self.spec.models.get(id).is_some_and(|held| held.manifest.numeric_spec > 0);
        let mut lines = Vec::<BatchLine>::new();
        for (lane, (n, of)) in (0u32..).zip(wanted) {
            let model = choose(*n);
            // All of models that are exact, or none.
            if lines.first().is_some_and(|first| exact(&first.model) != exact(&model)) {
                continue;
            }
            let domain = self.spec.models.get(&model).map_or(0, |held| held.domain);
            // Seldom nothing.
            let (channel, fees) = (self.channel, fee(if of % 32 == 0 { 0 } else { *of }));
            let (receipts, prompt_tokens, output_tokens) = (1, 20, 50);
            lines.push(BatchLine {
                channel,
                lane,
                model,
                domain,
                receipts,
                prompt_tokens,
                output_tokens,
                fees,
            });
        }
        let spender = key("spender");
        let vouchers = lines.iter().map(|line| {
            let claimed = self.spec.channel.lanes.get(&line.lane).copied().unwrap_or_default();
            let max_claimable = Amount::from_atto(claimed + line.fees.atto());
            let (channel, lane, signer) = (self.channel, line.lane, spender.address());
            let body =
                Voucher { chain_id: CHAIN_ID, channel, lane, max_claimable, signer, expires_ms: u64::MAX };
            Signed::sign(body, &spender)
        });
        let vouchers = vouchers.collect();
        let body = BatchRoot {
            chain_id: CHAIN_ID,
            worker: address_of(worker),
            gateway: address_of("gateway"),
            sequence: self.spec.sequences.get(&address_of(worker)).copied().unwrap_or_default(),
            root: Hash32([8; 32]),
            count: u32::try_from(lines.len()).unwrap(),
            lines,
            expires_ms: u64::MAX,
        };
        (worker, Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers })
    }
}
