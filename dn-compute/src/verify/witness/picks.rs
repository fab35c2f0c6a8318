//! Where an auditor points: the first thing that differs from its own computation.

use dn_core::merkle::fold;

use super::*;

impl Witness<'_> {
    /// Where the worker's opening first departs from this computation, where it is the accuser's turn; `None` where it is
    /// not. Of an opening that departs nowhere it points to the first of everything.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn pick(&self, dispute: &Dispute) -> Result<Option<Pick>, WitnessError> {
        let claim = dispute.claim();
        let index = |index: Option<usize>| Pick::Index { index: index.unwrap_or(0) as u32 };
        Ok(Some(match dispute.due() {
            Due::Node { level, first, nodes } => {
                let own = self.tree.level(*level as usize).unwrap_or_default();
                let own = own.get(*first as usize..).unwrap_or_default();
                let differs = (0..nodes.len()).find(|i| own.get(*i) != Some(&nodes[*i].0));
                let choice = self.wrong_choice.map(|p| (p as usize >> level).wrapping_sub(*first as usize));
                let choice = choice.filter(|i| *i < nodes.len());
                index(differs.into_iter().chain(choice).min())
            }
            Due::Stage => {
                let leaf = dispute.leaf().ok_or(missing("such leaf"))?;
                Pick::Stage { stage: self.first_stage(leaf)? }
            }
            Due::Op => {
                let mut differs = None;
                for (at, (name, theirs)) in dispute.rows().enumerate() {
                    if self.hash_so_far(claim.position, claim.stage, name)? != Some(theirs) {
                        differs = Some(at);
                        break;
                    }
                }
                Pick::Op { op: differs.unwrap_or(0) as u8 }
            }
            Due::Group { .. } | Due::Element { .. } | Due::Block { .. } if self.is_stuck_at(dispute)? => {
                index(Some(self.index_without_result(dispute)?))
            }
            Due::Group { groups } => {
                let own = list(&self.output_row(dispute)?);
                index((0..groups.len()).find(|i| own.get(*i) != groups.get(*i)))
            }
            Due::Element { slice } => {
                let row = self.output_row(dispute)?;
                let own = &row[slice.first as usize * CHUNK..][..slice.bytes.len()];
                let at = own.iter().zip(&slice.bytes).position(|(a, b)| a != b);
                let size = self.op(dispute)?.element_bytes();
                index(at.map(|at| at / size))
            }
            Due::Block { blocks } => {
                let own = self.blocks(claim, &self.op(dispute)?)?;
                index((0..blocks.len()).find(|i| own.get(*i) != blocks.get(*i)))
            }
            Due::Settings | Due::Range | Due::Token => {
                self.choice(claim)?.pick(dispute).ok_or(missing("such choice"))?
            }
            Due::Tile => Pick::Tile { opening: self.tile(dispute)? },
            _ => return Ok(None),
        }))
    }

    fn first_stage(&self, theirs: &Leaf) -> Result<Stage, WitnessError> {
        let position = theirs.position;
        // A token that does not exist cannot be fed, and nobody has an answer to a prompt with one.
        let token = self.fed.get(position as usize);
        if token.is_some_and(|token| *token >= self.geometry.h.vocabulary) {
            return Ok(Stage::Token);
        }
        let own = match self.stuck {
            Some((at, _)) if at == position => self.leaf_so_far(position, theirs.logits.is_some())?,
            _ => self.leaf(position)?,
        };
        if theirs.token != own.token {
            return Ok(Stage::Token);
        }
        if theirs.boundaries.first() != own.boundaries.first() {
            return Ok(Stage::Embedding);
        }
        let same = |l: &usize| {
            theirs.entries.get(*l) == own.entries.get(*l)
                && theirs.boundaries.get(l + 1) == own.boundaries.get(l + 1)
        };
        let layers = self.geometry.h.layers as usize;
        if let Some(layer) = (0..layers).find(|l| !same(l)) {
            return Ok(Stage::Layer { layer: layer as u32 });
        }
        let chooses = theirs.logits.is_some();
        Ok(match (theirs.logits == own.logits, chooses) {
            (false, _) => Stage::Logits,
            (true, true) => Stage::Choice,
            (true, false) => Stage::Token,
        })
    }

    /// Whether a dispute is about the operation that has no result here.
    fn is_stuck_at(&self, dispute: &Dispute) -> Result<bool, WitnessError> {
        let (claim, op) = (dispute.claim(), self.op(dispute)?);
        let here =
            |(at, stuck): (u32, Stuck)| (at, stuck.stage, stuck.op) == (claim.position, claim.stage, op.name);
        Ok(self.stuck.is_some_and(here))
    }

    /// The index, among what the worker has opened, that leads to an element without a result.
    fn index_without_result(&self, dispute: &Dispute) -> Result<usize, WitnessError> {
        let op = self.op(dispute)?;
        let at = self.stuck.map_or(0, |(_, stuck)| stuck.element as usize) * op.element_bytes();
        Ok(match dispute.due() {
            Due::Group { .. } => at / CHUNK / group_chunks(op.bytes()),
            Due::Element { slice } => (at - slice.first as usize * CHUNK) / op.element_bytes(),
            // No key of the query has a score.
            _ => 0,
        })
    }

    /// The hash of what an operation gives; `None` where the computation does not go so far.
    fn hash_so_far(&self, position: u32, stage: Stage, name: OpName) -> Result<Option<Hash32>, WitnessError> {
        match self.row(position, stage, name) {
            Ok(row) => Ok(Some(Hash32(*blake3::hash(&row).as_bytes()))),
            Err(WitnessError::Missing { .. }) if self.stuck.is_some_and(|(at, _)| at == position) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A leaf with the hashes that there are, and in the place of the others one that no row has.
    fn leaf_so_far(&self, position: u32, with_logits: bool) -> Result<Leaf, WitnessError> {
        let hash =
            |stage, name| Ok::<_, WitnessError>(self.hash_so_far(position, stage, name)?.unwrap_or_default());
        let of_layers = |name| (0..self.geometry.h.layers).map(move |layer| (Stage::Layer { layer }, name));
        let first = (Stage::Embedding, OpName::Embedding);
        let boundaries = std::iter::once(first).chain(of_layers(OpName::FfnResidual));
        let boundaries = boundaries.map(|(stage, name)| hash(stage, name)).collect::<Result<_, _>>()?;
        let entries = of_layers(OpName::CacheEntry).map(|(stage, name)| hash(stage, name));
        let entries = entries.collect::<Result<_, _>>()?;
        let token = *self.fed.get(position as usize).ok_or(missing("such position"))?;
        let logits = with_logits.then(|| hash(Stage::Logits, OpName::Logits)).transpose()?;
        Ok(Leaf { position, token, boundaries, entries, logits })
    }

    /// What the referee needs to judge the claim.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn tile(&self, dispute: &Dispute) -> Result<Opening, WitnessError> {
        let (claim, op) = (dispute.claim(), self.op(dispute)?);
        let element = claim.element as usize;
        let mut opening = Opening::default();
        let mut show = |row: &[u8], range: Range<usize>| opening.rows.push(Slice::cut(row, range));
        let inputs: Vec<Vec<u8>> =
            op.inputs.iter().map(|source| self.values(claim, *source)).collect::<Result<_, _>>()?;
        let d = self.geometry.h.head_size as usize;
        match op.kind {
            Kind::Token => self.show_token(claim, &mut opening)?,
            Kind::Embed { table } => opening.weights = self.weights(table, claim.token as usize, 0..0)?,
            Kind::Norm { weight } => {
                let cols = weight.shape(&self.geometry.h).0 as usize;
                let base = element / cols * cols;
                let pick = self.first_sum(claim, &op)?;
                show(&inputs[0], range_bytes(base, cols, pick));
                show(&inputs[0], element * 4..element * 4 + 4);
                let at = (element - base) * 4;
                opening.weights = self.weights(weight, 0, at..at + 4)?;
                opening.pick = pick as u32;
            }
            Kind::Linear { weight } => {
                let cols = weight.shape(&self.geometry.h).0 as usize;
                let pick = self.first_sum(claim, &op)?;
                show(&inputs[0], range_bytes(0, cols, pick));
                opening.weights = self.weights(weight, element, 0..0)?;
                opening.pick = pick as u32;
            }
            Kind::Bias { weight } => {
                show(&inputs[0], element * 4..element * 4 + 4);
                opening.weights = self.weights(weight, 0, element * 4..element * 4 + 4)?;
            }
            Kind::Rope => {
                show(&inputs[0], element / d * d * 4..(element / d + 1) * d * 4);
                if let Some(slot) = self.geometry.rope_factors() {
                    opening.weights = self.weights(slot, 0, 0..0)?;
                }
            }
            Kind::Entry => {
                let (head, field) = (element / (2 + 2 * d), element % (2 + 2 * d));
                let input = if field < 2 { field } else { (field - 2) / d };
                show(&inputs[input], head * d * 4..(head + 1) * d * 4);
            }
            Kind::Attention => {
                let head = element / d;
                show(&inputs[0], head * d * 4..(head + 1) * d * 4);
                self.show_key(dispute, &op, &mut opening)?;
            }
            Kind::Add | Kind::SiluMul => {
                inputs.iter().for_each(|row| show(row, element * 4..element * 4 + 4));
            }
            Kind::Choice => opening = self.choice(claim)?.tile(claim).ok_or(missing("such choice"))?,
        }
        Ok(opening)
    }

    /// The first range that is not as stated.
    fn first_sum(&self, claim: &Claim, op: &OpPlan) -> Result<usize, WitnessError> {
        let Parts::Sums { sums: theirs } = &claim.parts else { return Ok(0) };
        let own = self.sums(claim, op)?;
        let pairs = || theirs.iter().zip(&own);
        // Before the exponent agrees, sums cannot be compared.
        let largest = pairs().position(|(a, b)| a.largest != b.largest);
        Ok(largest.or_else(|| pairs().position(|(a, b)| a != b)).unwrap_or(0))
    }

    fn weights(
        &self,
        slot: Slot,
        row: usize,
        part: Range<usize>,
    ) -> Result<Option<WeightSlice>, WitnessError> {
        let opened = self.model.open_tile(slot, row)?;
        let (tile, proof, bytes) = opened.ok_or(missing("such tile"))?;
        let part = if part.is_empty() { 0..bytes.len() } else { part };
        Ok(Some(WeightSlice { tile, proof, slice: Slice::cut(&bytes, part) }))
    }

    fn show_key(&self, dispute: &Dispute, op: &OpPlan, opening: &mut Opening) -> Result<(), WitnessError> {
        let claim = dispute.claim();
        let (Stage::Layer { layer }, Parts::Keys { block, keys, .. }) = (claim.stage, &claim.parts) else {
            return Err(missing("such keys"));
        };
        let own = if self.is_stuck_at(dispute)? { Vec::new() } else { self.keys(claim, op, *block)? };
        let pick = own.iter().zip(keys).position(|(a, b)| a != b).unwrap_or(0);
        let range = tiles::keys_of(self.geometry.first_key(layer, claim.position), claim.position, *block);
        let key = range.start + pick as u32;
        let entry = self.entry(claim, layer, key)?;
        let h = &self.geometry.h;
        let d = h.head_size as usize;
        let kv_head = claim.element as usize / d / (h.heads / h.kv_heads) as usize;
        let size = (2 + 2 * d) * 2;
        opening.pick = pick as u32;
        // Of the disputed position, what counts is the worker's leaf.
        let theirs = dispute.leaf().filter(|leaf| leaf.position == key).cloned();
        let body = theirs.map_or_else(|| self.leaf(key), Ok)?.to_bytes();
        let proof = self.worker_proof(dispute, key);
        let entry = Slice::cut(&entry, kv_head * size..(kv_head + 1) * size);
        opening.past = Some(past(layer, body, proof, entry));
        Ok(())
    }

    /// The proof of a leaf to the *worker's* root: nodes that the worker opened, and below them nodes before the first
    /// difference, which are this computation's own.
    fn worker_proof(&self, dispute: &Dispute, position: u32) -> InclusionProof {
        let count = dispute.claim().subject.positions();
        let node = |level: u32, index: u64, size: u64| {
            let covered = dispute.opened().iter().rev().find_map(|opened| {
                let down = level.checked_sub(opened.level)?;
                let below = count.div_ceil(1 << opened.level);
                let (start, end) = (index << down, ((index + 1) << down).min(below));
                let from = usize::try_from(start.checked_sub(opened.first)?).ok()?;
                let to = usize::try_from(end - opened.first).ok()?;
                let nodes: Vec<[u8; 32]> = opened.nodes.get(from..to)?.iter().map(|n| n.0).collect();
                fold(&nodes)
            });
            let own = || self.tree.level(level as usize).and_then(|nodes| nodes.get(index as usize)).copied();
            (index < size).then(|| Hash32(covered.or_else(own).unwrap_or_default()))
        };
        let (mut at, mut size, mut level, mut path) = (u64::from(position), count, 0, Vec::new());
        while size > 1 {
            path.extend(node(level, at ^ 1, size));
            (at, size, level) = (at / 2, size.div_ceil(2), level + 1);
        }
        InclusionProof { index: position.into(), count, path }
    }

    fn show_token(&self, claim: &Claim, opening: &mut Opening) -> Result<(), WitnessError> {
        match claim.position.checked_sub(claim.subject.prompt_tokens) {
            None => {
                let at = JobRequest::PROMPT_OFFSET + 4 * claim.position as usize;
                opening.request = Some(self.request_slice(at..at + 4));
            }
            Some(index) => opening.rows.push(self.output_slice(index)?),
        }
        Ok(())
    }

    fn request_slice(&self, range: Range<usize>) -> RequestSlice {
        let bytes = self.request.to_bytes();
        RequestSlice { len: bytes.len() as u32, slice: Slice::cut(&bytes, range) }
    }

    fn output_slice(&self, index: u32) -> Result<Slice, WitnessError> {
        let bytes: Vec<u8> = self.output.iter().flat_map(|t| t.to_le_bytes()).collect();
        let at = index as usize * 4;
        if at + 4 > bytes.len() {
            return Err(missing("such output token"));
        }
        Ok(Slice::cut(&bytes, at..at + 4))
    }
}

/// Bytes of a range of a row of `cols` values that starts at `base`.
fn range_bytes(base: usize, cols: usize, pick: usize) -> Range<usize> {
    debug_assert!(pick < ranges(cols));
    (base + pick * RANGE) * 4..(base + cols.min((pick + 1) * RANGE)) * 4
}

fn past(layer: u32, body: Vec<u8>, proof: InclusionProof, entry: Slice) -> PastEntry {
    let at = Leaf::entry_offset(layer as usize);
    let leaf = Hash32(*blake3::hash(&body).as_bytes());
    PastEntry { leaf, proof, body: Slice::cut(&body, at..at + 32), entry }
}
