//! Linear layers for every form of blocks in plain code, cut by rows: what has no packed kernel comes here.

use crate::spec::{
    Matrix, NumericError, Op, Prepared, QuantMatrix, QuantRow,
    float::finish,
    matrix::MIN_SHIFT,
    quantise::{no_overflow, quantise, rebase},
};

use crate::cpu::Cpu;
use crate::cpu::isa::multiversioned;

use super::Out;

/// A matrix as the specification holds it.
#[derive(Debug)]
pub(crate) struct General(pub(crate) QuantMatrix);

impl Prepared for General {
    fn rows(&self) -> usize {
        self.0.rows()
    }
    fn cols(&self) -> usize {
        self.0.cols()
    }
    fn memory_bytes(&self) -> usize {
        Prepared::memory_bytes(&self.0)
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Columns whose products sum up in an i32: `512 * 127 * 32639 < 2^31`.
const PIECE: usize = 512;

/// Matrices of which one at least has no packed kernel; the plan has been checked.
pub(super) fn linear(
    cpu: &Cpu,
    weights: &[&Matrix],
    x: &[f32],
    tokens: usize,
    out: &mut [&mut [f32]],
) -> Result<(), NumericError> {
    for packed in weights.iter().filter(|w| super::super::general(w).is_none()) {
        super::own(Op::Linear, packed)?;
    }
    let cols = weights[0].cols();
    let (mut a, mut et) = (vec![0i16; x.len()], vec![0i32; tokens]);
    for (t, (x, a)) in x.chunks_exact(cols).zip(a.chunks_exact_mut(cols)).enumerate() {
        et[t] = quantise(Op::Linear, "x", x, a).map_err(|e| rebase(e, t * cols))?;
    }
    for (w, out) in weights.iter().zip(out) {
        let Some(matrix) = super::super::general(w) else {
            super::linear(cpu, &[w], x, tokens, &mut [out])?;
            continue;
        };
        one(cpu, matrix, &a, &et, out);
        no_overflow(Op::Linear, out)?;
    }
    Ok(())
}

fn one(cpu: &Cpu, w: &QuantMatrix, a: &[i16], et: &[i32], out: &mut [f32]) {
    let (rows, cols, tokens) = (w.rows(), w.cols(), et.len());
    let target = Out { at: out.as_mut_ptr(), rows, tokens };
    let per = rows.div_ceil(cpu.threads.pieces(rows * cols * tokens));
    let pieces = (0..rows).step_by(per).map(|first| first..rows.min(first + per)).collect();
    let level = cpu.level;
    cpu.threads.map(pieces, |piece: std::ops::Range<usize>| {
        for row in piece {
            let weights = w.row(row);
            for (t, a) in a.chunks_exact(cols).enumerate() {
                let value = finish(sum(level, weights, a), weights.er + et[t]);
                // SAFETY: pieces hold disjoint rows, and each is written by its piece alone.
                unsafe { target.write(t, row, &[value]) };
            }
        }
    });
}

multiversioned! {
    /// The exact sum of a row, as [`exact_sum`](crate::spec::linear::exact_sum) gives it.
    fn sum(row: QuantRow<'_>, a: &[i16]) -> i64 = sum_body;
}

#[inline(always)]
fn sum_body(row: QuantRow<'_>, a: &[i16]) -> i64 {
    let mut sum = 0i64;
    for ((q, m, n), a) in row.blocks().zip(a.chunks(row.block)) {
        let mut dot = 0i64;
        for (q, a) in q.chunks(PIECE).zip(a.chunks(PIECE)) {
            let piece: i32 = q.iter().zip(a).map(|(q, a)| i32::from(*q) * i32::from(*a)).sum();
            dot += i64::from(piece);
        }
        sum += dot * i64::from(m);
        if n != 0 {
            let total: i32 = a.iter().map(|a| i32::from(*a)).sum();
            sum -= (i64::from(total) * i64::from(n)) << MIN_SHIFT;
        }
    }
    sum
}
