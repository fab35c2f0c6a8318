//! Few queries over many keys: each pass is cut by pages, and the parts' exact sums are added up.

use crate::spec::{NumericError, attention::KEY_BLOCK, attention::value_width};

use crate::cpu::threads::Threads;

use super::{Buffers, Call, NO_TOPS, Piece, Queries, Sums, Tops, first_error, highest, pages};

/// Fewest pages of a part.
const MIN_PAGES: usize = 4;

/// The state of a piece between the passes.
struct Between<'a> {
    piece: &'a Piece,
    queries: Queries,
    first_page: usize,
    /// Pages of each part but the last.
    step: usize,
    scores: Vec<i32>,
    tops: Vec<Tops>,
}

/// Runs the pieces, each in about `parts` parts.
pub(super) fn run(
    threads: &Threads,
    call: &Call<'_>,
    pieces: &[Piece],
    parts: usize,
) -> Result<(), NumericError> {
    let mut all = Vec::with_capacity(pieces.len());
    first_error(pieces.iter().map(|piece| {
        let mut queries = Queries::default();
        queries.fill(call.level, call.plan, piece, call.q)?;
        let (rows, pages) = (queries.rows(), pages(call.plan, &piece.tokens));
        let (scores, tops) = (vec![0; pages.len() * rows * KEY_BLOCK], vec![NO_TOPS; pages.len() * rows]);
        let step = pages.len().div_ceil(parts).max(MIN_PAGES);
        all.push(Between { piece, queries, first_page: pages.start, step, scores, tops });
        Ok(())
    }))?;

    let mut tasks = Vec::new();
    for between in &mut all {
        let Between { piece, queries, first_page, step, scores, tops } = between;
        let rows = queries.rows();
        let chunks = scores.chunks_mut(*step * rows * KEY_BLOCK).zip(tops.chunks_mut(*step * rows));
        for (part, (scores, tops)) in chunks.enumerate() {
            tasks.push((&**piece, &*queries, *first_page + part * *step, scores, tops));
        }
    }
    threads.map(tasks, |(piece, queries, first, scores, tops)| {
        let pages = first..first + tops.len() / queries.rows();
        call.score(piece.kv_head, queries, pages, scores, tops, &mut Buffers::default());
    });

    let of_rows: Vec<Vec<Tops>> = all.iter().map(|b| highest(&b.tops, b.queries.rows())).collect();
    let width = value_width(call.plan.head_dim);
    let mut tasks = Vec::new();
    for (index, between) in all.iter().enumerate() {
        let rows = between.queries.rows();
        let chunks = between.scores.chunks(between.step * rows * KEY_BLOCK);
        for (part, (scores, tops)) in chunks.zip(between.tops.chunks(between.step * rows)).enumerate() {
            tasks.push((index, between.first_page + part * between.step, scores, tops));
        }
    }
    let sums = threads.map(tasks, |(index, first, scores, tops)| {
        let (of_rows, mut sums) = (&of_rows[index], Sums::default());
        sums.reset(of_rows.len(), width);
        let pages = first..first + tops.len() / of_rows.len();
        let mut buffers = Buffers::default();
        call.weigh(all[index].piece.kv_head, pages, scores, tops, of_rows, &mut buffers, &mut sums);
        (index, sums)
    });

    for (index, between) in all.iter().enumerate() {
        let mut total = Sums::default();
        total.reset(between.queries.rows(), width);
        for (_, part) in sums.iter().filter(|(i, _)| *i == index) {
            for (total, part) in total.den.iter_mut().zip(&part.den) {
                *total += part;
            }
            for (total, part) in total.num.iter_mut().zip(&part.num) {
                *total += part;
            }
        }
        call.finish(between.piece, &of_rows[index], &total);
    }
    Ok(())
}
