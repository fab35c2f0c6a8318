//! Linear layers: see [`crate::spec::linear`].

use super::call::Call;
use super::device::{Buf, Device};
use super::elements::{blame, bytes};
use super::matrix::Resident;
use super::own;
use super::quantise::{CHUNK, Digits, locate, quantise};
use crate::spec::{BlockLength, LinearPlan, Matrix, NumericError, Op, Prepared, quantise::no_overflow};

/// Most tokens of a launch: its second dimension counts tiles of them.
pub(super) const MOST_TOKENS: usize = 1 << 15;
/// Tokens and rows of a block of `linear_tiles.cu`.
const TILE: usize = 64;
/// Tokens up to which weights are rather read once than multiplied in tiles.
const FEW_TOKENS: usize = 8;
/// Threads of a block of both.
const BLOCK: u32 = 128;
/// Rows of weights of a block of `linear.cu`.
const FEW_ROWS: usize = 8;

pub(super) fn linear(
    device: &Device,
    weights: &[&Matrix],
    x: &[f32],
    tokens: usize,
    out: &mut [&mut [f32]],
) -> Result<(), NumericError> {
    let op = Op::Linear;
    let shapes: Vec<&dyn Prepared> = weights.iter().map(|w| &***w).collect();
    let plan = LinearPlan::new(&shapes, x, tokens, out)?;
    let own: Vec<&Resident> = weights.iter().map(|w| own(op, w)).collect::<Result<_, _>>()?;
    let longest = plan.rows.iter().copied().max().unwrap_or(1).max(plan.cols.next_multiple_of(CHUNK));
    let step = (device.most_words / longest).clamp(1, MOST_TOKENS);
    let (mut bad_input, mut any) = (false, false);
    for first in (0..tokens).step_by(step) {
        let count = step.min(tokens - first);
        let call = Call::new(device, op)?;
        let x = call.upload(&x[first * plan.cols..][..count * plan.cols])?;
        let a = quantise(&call, &x, count, plan.cols, CHUNK, None)?;
        let bufs: Vec<Buf> = own.iter().map(|w| multiply(&call, w, &a, count)).collect::<Result<_, _>>()?;
        let mut outs: Vec<(&Buf, &mut [u8])> = bufs
            .iter()
            .zip(out.iter_mut())
            .zip(&plan.rows)
            .map(|((buf, out), rows)| (buf, bytes(&mut out[first * rows..][..count * rows])))
            .collect();
        let faults = call.finish(&mut outs)?;
        bad_input |= faults.input();
        any |= faults.any();
    }
    let found = || match bad_input {
        true => locate(op, "x", x, plan.cols),
        false => out.iter().try_for_each(|out| no_overflow(op, out)),
    };
    if any { blame(device, op, found()) } else { Ok(()) }
}

/// The product of `tokens` quantised rows with a matrix.
pub(super) fn multiply(
    call: &Call<'_>,
    w: &Resident,
    a: &Digits,
    tokens: usize,
) -> Result<Buf, NumericError> {
    let y = call.room(tokens * w.rows())?;
    let (kernel, grid) = if tokens > FEW_TOKENS && call.device.driver().has_tiles() {
        let kernel = match w.blocks.length {
            BlockLength::B16 => "linear_tiles_16",
            BlockLength::B32 => "linear_tiles_32",
            BlockLength::B128 => "linear_tiles_128",
            BlockLength::Row => "linear_tiles_row",
        };
        (kernel, [w.rows().div_ceil(TILE), tokens.div_ceil(TILE), 1])
    } else {
        let (kernel, at_once) = match (tokens, &w.fours) {
            (1, None) => ("linear_1", 1),
            (2, None) => ("linear_2", 2),
            (3..=4, None) => ("linear_4", 4),
            (_, None) => ("linear_8", 8),
            (1, Some(_)) => ("linear_fours_1", 1),
            (2, Some(_)) => ("linear_fours_2", 2),
            (3..=4, Some(_)) => ("linear_fours_4", 4),
            (_, Some(_)) => ("linear_fours_8", 8),
        };
        (kernel, [w.rows().div_ceil(FEW_ROWS), tokens.div_ceil(at_once), 1])
    };
    let addresses = [
        w.q.at(),
        w.m.at(),
        w.minima_at(),
        w.exponents.at(),
        a.high.at(),
        a.low.at(),
        a.exponents.at(),
        a.sums.at(),
        y.at(),
        call.fault(),
        w.above_at(),
    ];
    let [fours, least] = w.four_numbers();
    let [rows, stride, pieces, blocks, tokens] =
        [w.rows(), w.stride, w.cols().div_ceil(16), w.block_count, tokens].map(|n| n as u32);
    let numbers = [rows, stride, pieces, w.piece_shift(), blocks, tokens, fours, least];
    call.launch(kernel, grid, BLOCK, &addresses, &numbers)?;
    Ok(y)
}
