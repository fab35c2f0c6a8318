//! The cache and attention over it.

use crate::spec::{Backend, KvLayer, KvShape, Mask, NumericError, Op};

use super::{Kind, Mismatch, Rng, Suite};

/// Key-value heads, query heads, elements of a head, positions.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 2, 1),
    (1, 1, 64, 63),
    (2, 4, 64, 64),
    (2, 14, 64, 65),
    (3, 3, 80, 129),
    (1, 4, 128, 200),
    (2, 2, 10, 130),
    (4, 8, 32, 97),
    (1, 2, 256, 70),
];

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Attention, 7);
    for (kv_heads, heads, d, positions) in SHAPES {
        let few = [Kind::Outliers, Kind::Huge, Kind::Wide];
        for &kind in if positions < 66 { &Kind::ALL[..] } else { &few } {
            for values in [Kind::Usual, kind] {
                let call = Call::new(&mut rng, [kv_heads, heads, d, positions], [Kind::Usual, kind, values]);
                suite.compare(|backend| call.ends(backend))?;
            }
        }
        let call = Call::new(&mut rng, [kv_heads, heads, d, positions], [Kind::Full; 3]);
        suite.compare(|backend| call.ends(backend))?;
    }
    masks(suite, &mut rng)?;
    sinks(suite, &mut rng)?;
    rewritten(suite, &mut rng)?;
    refusals(suite, &mut rng)
}

/// Inputs of a prompt.
struct Call {
    shape: KvShape,
    heads: usize,
    mask: Mask,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Call {
    fn new(rng: &mut Rng, [kv_heads, heads, d, positions]: [usize; 4], [q, k, v]: [Kind; 3]) -> Self {
        Self {
            shape: KvShape { heads: kv_heads, head_dim: d, capacity: positions },
            heads,
            mask: Mask::Causal,
            q: rng.vector(q, positions * heads * d),
            k: rng.vector(k, positions * kv_heads * d),
            v: rng.vector(v, positions * kv_heads * d),
        }
    }

    fn filled(&self, backend: &dyn Backend) -> Result<KvLayer, NumericError> {
        let mut kv = backend.kv_layer(self.shape)?;
        backend.kv_append(&mut kv, &self.k, &self.v)?;
        Ok(kv)
    }

    /// The first queries of the prompt and the last, from a cache that holds all of it.
    fn ends(&self, backend: &dyn Backend) -> Result<Vec<f32>, NumericError> {
        let kv = self.filled(backend)?;
        let row = self.heads * self.shape.head_dim;
        let few = kv.len().min(9);
        let last = kv.len() - few;
        let mut out = vec![9.0; 2 * few * row];
        let (start, end) = out.split_at_mut(few * row);
        backend.attention(&kv, self.mask, self.heads, 0, &self.q[..few * row], start)?;
        backend.attention(&kv, self.mask, self.heads, last, &self.q[last * row..], end)?;
        Ok(out)
    }
}

/// Windows that end inside, at and across blocks, and no mask at all.
fn masks(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let windows = [1, 2, 5, 63, 64, 65, 100, 128, 129, 131_072, usize::MAX];
    let windows = windows.map(|positions| Mask::Window { positions });
    for (kv_heads, heads, d, positions) in [(1, 2, 64, 70), (2, 14, 64, 131), (1, 3, 80, 260), (2, 2, 6, 194)]
    {
        for kind in [Kind::Usual, Kind::Outliers, Kind::Wide] {
            let mut call = Call::new(rng, [kv_heads, heads, d, positions], [Kind::Usual, kind, kind]);
            for mask in windows.into_iter().chain([Mask::Full]) {
                call.mask = mask;
                suite.compare(|backend| call.ends(backend))?;
            }
        }
    }
    // Keys far above the rest that some queries see and others do not.
    let (heads, d, positions) = (4, 32, 200);
    for loud in [0, 63, 64, 120, 199] {
        let mut call = Call::new(rng, [1, heads, d, positions], [Kind::Usual; 3]);
        for c in 0..d {
            call.k[loud * d + c] *= 1e4;
            call.v[loud * d + c] *= 1e9;
        }
        for mask in [Mask::Window { positions: 80 }, Mask::Causal, Mask::Full] {
            call.mask = mask;
            suite.compare(|backend| {
                let kv = call.filled(backend)?;
                let mut out = vec![9.0; positions * heads * d];
                backend.attention(&kv, mask, heads, 0, &call.q, &mut out)?;
                Ok(out)
            })?;
        }
    }
    let mut call = Call::new(rng, [1, 1, 4, 10], [Kind::Usual; 3]);
    call.mask = Mask::Window { positions: 0 };
    suite.compare(|backend| call.ends(backend))
}

/// Long contexts with a first key far above the rest, with usual and with tiny values.
fn sinks(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let (d, positions) = (64, 1000);
    for (factor, value) in [(10.0, 1.0), (10.0, 1e-3), (60.0, 1e-3), (1e4, 1.0), (1e30, 1e-30)] {
        let mut call = Call::new(rng, [1, 2, d, positions], [Kind::Usual; 3]);
        for c in 0..d {
            call.k[c] = call.q[(positions - 1) * 2 * d + c] * factor;
            call.v[c] *= value;
        }
        suite.compare(|backend| {
            let kv = call.filled(backend)?;
            let mut out = vec![9.0; 2 * d];
            backend.attention(
                &kv,
                Mask::Causal,
                2,
                positions - 1,
                &call.q[(positions - 1) * 2 * d..],
                &mut out,
            )?;
            Ok(out)
        })?;
    }
    Ok(())
}

/// A cache cut back and filled anew, beside a clone that must not notice.
fn rewritten(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let first = Call::new(rng, [2, 4, 32, 150], [Kind::Usual, Kind::Huge, Kind::Huge]);
    let second = Call::new(rng, [2, 4, 32, 150], [Kind::Usual; 3]);
    for keep in [0, 1, 63, 64, 100] {
        suite.compare(|backend| {
            let mut kv = first.filled(backend)?;
            let before = kv.clone();
            kv.truncate(keep);
            let row = 2 * 32;
            let room = (120 - keep) * row;
            backend.kv_append(&mut kv, &second.k[..room], &second.v[..room])?;
            let mut out = vec![9.0; 2 * 4 * 32];
            let (new, old) = out.split_at_mut(4 * 32);
            backend.attention(&kv, Mask::Causal, 4, 119, &second.q[..4 * 32], new)?;
            backend.attention(&before, Mask::Causal, 4, 149, &second.q[..4 * 32], old)?;
            Ok(out)
        })?;
    }
    Ok(())
}

fn refusals(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let good = Call::new(rng, [2, 4, 32, 70], [Kind::Usual; 3]);
    for value in [f32::NAN, f32::INFINITY, 2e30] {
        for part in 0..3 {
            let mut call = Call { q: good.q.clone(), k: good.k.clone(), v: good.v.clone(), ..good };
            let at = [&mut call.q, &mut call.k, &mut call.v];
            at.into_iter().nth(part).expect("three parts")[1000] = value;
            suite.compare(|backend| call.ends(backend))?;
            // A refused append leaves the cache as it was.
            suite.compare(|backend| {
                let mut kv = backend.kv_layer(KvShape { capacity: 140, ..call.shape })?;
                backend.kv_append(&mut kv, &good.k, &good.v)?;
                let refused = backend.kv_append(&mut kv, &call.k, &call.v).is_err();
                Ok(vec![f32::from(u8::from(refused)), kv.len() as f32])
            })?;
        }
    }
    for (heads, first, q, out) in [
        (3, 0, 96, 96),
        (0, 0, 128, 128),
        (4, 70, 128, 128),
        (4, usize::MAX, 128, 128),
        (4, 0, 127, 127),
        (4, 0, 128, 256),
    ] {
        suite.compare(|backend| {
            let kv = good.filled(backend)?;
            let mut out = vec![9.0; out];
            backend.attention(&kv, Mask::Causal, heads, first, &good.q[..q], &mut out).map(|()| out)
        })?;
    }
    for (k, v) in [(64, 64), (63, 63), (64, 128), (0, 0)] {
        suite.compare(|backend| {
            let mut kv = good.filled(backend)?;
            backend.kv_append(&mut kv, &good.k[..k], &good.v[..v]).map(|()| vec![])
        })?;
    }
    for shape in [(0, 32, 9), (1, 0, 9), (1, 258, 9), (1, 31, 9), (1, 32, 0), (1, 32, 1 << 20)] {
        suite.compare(|backend| {
            let (heads, head_dim, capacity) = shape;
            backend.kv_layer(KvShape { heads, head_dim, capacity }).map(|_| vec![])
        })?;
    }
    Ok(())
}
