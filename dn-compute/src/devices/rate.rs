//! How fast a backend is with one token at a time.

use std::time::{Duration, Instant};

use crate::spec::{Backend, Matrix, NumericError, QuantMatrix};

/// Rows and columns of a matrix: those of a layer's attention in a model of seven billion weights.
const SIDE: usize = 4096;
/// Matrices of a call: more than a CPU's caches hold, mostly, as a model's are.
const MATRICES: usize = 2;
/// How long is measured.
const TIME: Duration = Duration::from_millis(60);

/// Weights per second that a backend multiplies with one row, of the fastest of several calls.
///
/// # Errors
/// A device that failed, or has no memory for 34 million weights.
pub(super) fn measure(backend: &dyn Backend) -> Result<u64, NumericError> {
    measure_shape(backend, SIDE, TIME)
}

fn measure_shape(backend: &dyn Backend, side: usize, time: Duration) -> Result<u64, NumericError> {
    let weights = weights(side);
    let matrices: Vec<Matrix> =
        (0..MATRICES).map(|_| backend.prepare(weights.clone())).collect::<Result<_, _>>()?;
    drop(weights);
    let mut fastest = Ok(Duration::MAX);
    backend.enter(&mut || fastest = fastest_call(backend, &matrices, side, time));
    let nanoseconds = fastest?.as_nanos().max(1);
    let rate = (MATRICES * side * side) as u128 * 1_000_000_000 / nanoseconds;
    Ok(u64::try_from(rate).unwrap_or(u64::MAX))
}

fn fastest_call(
    backend: &dyn Backend,
    matrices: &[Matrix],
    side: usize,
    time: Duration,
) -> Result<Duration, NumericError> {
    let x: Vec<f32> = (0..side).map(|i| (i % 17) as f32 * 0.125 - 1.0).collect();
    let mut outs = vec![vec![0f32; side]; matrices.len()];
    let weights: Vec<&Matrix> = matrices.iter().collect();
    let mut call = || {
        let mut out: Vec<&mut [f32]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
        let started = Instant::now();
        backend.linear(&weights, &x, 1, &mut out)?;
        Ok::<_, NumericError>(started.elapsed())
    };
    // The first call compiles, and wakes what sleeps.
    call()?;
    let (began, mut fastest) = (Instant::now(), call()?);
    while began.elapsed() < time {
        fastest = fastest.min(call()?);
    }
    Ok(fastest)
}

/// Weights of eight bits in blocks of 32.
fn weights(side: usize) -> QuantMatrix {
    let q = (0..side * side).map(|i| (i % 255) as i8).map(|q| if q == i8::MIN { 1 } else { q }).collect();
    let (m, er) = (vec![1 << 15; side * side.div_ceil(32)], vec![-20; side]);
    QuantMatrix::from_parts(side, side, q, m, er).expect("a canonical matrix")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::reference::Reference;

    /// The plain definition is slower than vector instructions, by far more than a busy machine can hide.
    #[test]
    fn a_rate_tells_fast_from_slow() {
        let rate = |backend: &dyn Backend| measure_shape(backend, 512, Duration::from_millis(1)).unwrap();
        let (slow, fast) = (rate(&Reference), rate(&Cpu::new(crate::Isa::Auto, 1).unwrap()));
        assert!(slow > 0, "{slow}");
        #[cfg(target_arch = "x86_64")]
        if crate::Isa::Avx2.is_available() {
            assert!(fast > slow, "{fast} {slow}");
        }
        let _ = fast;
    }
}
