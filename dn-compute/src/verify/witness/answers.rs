//! What a worker opens of its computation.

use super::*;

impl Witness<'_> {
    /// What this computation has to show, where it is the worker's turn; `None` where it is not.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn answer(&self, dispute: &Dispute) -> Result<Option<Answer>, WitnessError> {
        let claim = dispute.claim();
        let op = || self.op(dispute);
        Ok(Some(match dispute.due() {
            Due::Nodes { level, first, count } => {
                let nodes = self.tree.level(*level as usize).ok_or(missing("such level"))?;
                let range = *first as usize..*first as usize + *count as usize;
                let nodes = nodes.get(range).ok_or(missing("such nodes"))?;
                Answer::Nodes { nodes: nodes.iter().map(|node| Hash32(*node)).collect() }
            }
            Due::Leaf { position } => Answer::Leaf { bytes: self.leaf(*position)?.to_bytes() },
            Due::Rows => {
                let hashes = self.hashes(claim.position, claim.stage)?;
                let ops = self.geometry.ops(claim.stage);
                let stated = ops.iter().zip(hashes).filter(|(op, _)| !op.bound);
                Answer::Rows { hashes: stated.map(|(_, (_, hash))| hash).collect() }
            }
            Due::Groups => Answer::Groups { groups: list(&self.output_row(dispute)?) },
            Due::Values { group } => {
                let row = self.output_row(dispute)?;
                let size = group_chunks(row.len()) * CHUNK;
                let start = *group as usize * size;
                Answer::Values { slice: Slice::cut(&row, start..row.len().min(start + size)) }
            }
            Due::Sums => Answer::Sums { sums: self.sums(claim, &op()?)? },
            Due::Blocks => Answer::Blocks { blocks: self.blocks(claim, &op()?)? },
            Due::Keys { block, .. } => Answer::Keys { keys: self.keys(claim, &op()?, *block)? },
            Due::Choice | Due::Shares | Due::Seen | Due::Counts => {
                self.choice(claim)?.answer(dispute).ok_or(missing("such choice"))?
            }
            _ => return Ok(None),
        }))
    }

    pub(super) fn op(&self, dispute: &Dispute) -> Result<OpPlan, WitnessError> {
        let claim = dispute.claim();
        let ops = self.geometry.ops(claim.stage);
        ops.get(usize::from(claim.op)).cloned().ok_or(missing("such operation"))
    }

    pub(super) fn output_row(&self, dispute: &Dispute) -> Result<Vec<u8>, WitnessError> {
        let claim = dispute.claim();
        self.row(claim.position, claim.stage, self.op(dispute)?.name)
    }

    pub(super) fn sums(&self, claim: &Claim, op: &OpPlan) -> Result<Vec<Sum>, WitnessError> {
        let x = floats(&self.values(claim, op.inputs[0])?);
        match op.kind {
            Kind::Linear { weight } => {
                let Tensor::Matrix(matrix) = self.model.tensor(weight)? else {
                    return Err(missing("such matrix"));
                };
                let row = claim.element as usize;
                Ok(sums::state(&x, |range: Range<usize>, a| exact_sum(matrix.row(row).columns(range), a)))
            }
            Kind::Norm { weight } => {
                let cols = weight.shape(&self.geometry.h).0 as usize;
                let base = claim.element as usize / cols * cols;
                Ok(sums::state(&x[base..base + cols], |_, a| {
                    a.iter().map(|a| i64::from(a.unsigned_abs()) * i64::from(a.unsigned_abs())).sum()
                }))
            }
            _ => Err(missing("such sum")),
        }
    }

    pub(super) fn blocks(&self, claim: &Claim, op: &OpPlan) -> Result<Vec<KeyBlock>, WitnessError> {
        let Stage::Layer { layer } = claim.stage else { return Err(missing("such stage")) };
        let (count, _) = attention_parts(&self.geometry, layer, claim.position, 0);
        let block = |b| {
            let keys = self.keys(claim, op, b)?;
            tiles::block_of(&keys).ok_or(missing("such block"))
        };
        (0..count).map(block).collect()
    }

    pub(super) fn keys(&self, claim: &Claim, op: &OpPlan, block: u32) -> Result<Vec<KeyTerm>, WitnessError> {
        let Stage::Layer { layer } = claim.stage else { return Err(missing("such stage")) };
        let h = &self.geometry.h;
        let d = h.head_size as usize;
        let (head, element) = (claim.element as usize / d, claim.element as usize % d);
        let query = floats(&self.values(claim, op.inputs[0])?[head * d * 4..(head + 1) * d * 4]);
        let kv_head = head / (h.heads / h.kv_heads) as usize;
        let size = (2 + 2 * d) * 2;
        let term = |key: u32| {
            let entry = self.entry(claim, layer, key)?;
            let part = &entry[kv_head * size..(kv_head + 1) * size];
            tiles::term_of(&query, part, element).ok_or(missing("such score"))
        };
        tiles::keys_of(self.geometry.first_key(layer, claim.position), claim.position, block)
            .map(term)
            .collect()
    }

    pub(super) fn entry(&self, claim: &Claim, layer: u32, key: u32) -> Result<Vec<u8>, WitnessError> {
        match key == claim.position {
            true => self.row(key, claim.stage, OpName::CacheEntry),
            false => Ok(self.session.entry(layer, key)),
        }
    }
}
