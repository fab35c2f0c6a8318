//! Small calls against the reference, for `cargo xtask miri`: plain code on one and two threads passes by every `unsafe` that
//! is no vector instruction. Elsewhere they run on every instruction set of the machine.

use super::{Cpu, Isa};
use crate::reference::Reference;
use crate::spec::{
    Backend, BlockLength, KvShape, Mask, NumericError, Pairing, QuantMatrix, RopeScaling, RopeSpec, RopeTable,
};
use crate::testing::Rng;

fn numbers(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.signed()).collect()
}

/// Makes a call on the reference and on every instruction set, with one thread and two.
fn compare(what: &str, call: impl Fn(&dyn Backend) -> Result<Vec<f32>, NumericError> + Sync) {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let expected = call(&Reference).map(bits);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 2] {
            let cpu = Cpu::new(isa, threads).unwrap();
            let mut found = None;
            let mut run = || found = Some(call(&cpu).map(bits));
            // Threads that stay awake would have Miri interpret their waiting.
            if cfg!(miri) {
                run()
            } else {
                cpu.enter(&mut run)
            }
            assert_eq!(found.as_ref(), Some(&expected), "{what} on {isa} with {threads} threads");
        }
    }
}

#[test]
fn linear_layers() {
    let mut rng = Rng(1);
    let (rows, cols) = if cfg!(miri) { (18, 34) } else { (35, 70) };
    for length in BlockLength::ALL {
        let weights = numbers(&mut rng, rows * cols);
        // Miri takes a second for what takes a microsecond elsewhere.
        for tokens in if cfg!(miri) { [1, 2, 3] } else { [1, 3, 17] } {
            let x = numbers(&mut rng, tokens * cols);
            compare("linear", |backend| {
                let matrix = QuantMatrix::from_f32_blocks(rows, cols, length, &weights)?;
                let matrix = backend.prepare(matrix)?;
                let (mut a, mut b) = (vec![0.0; tokens * rows], vec![0.0; tokens * rows]);
                backend.linear(&[&matrix, &matrix], &x, tokens, &mut [&mut a, &mut b])?;
                let mut rows = vec![0.0; 2 * cols];
                backend.embed(&matrix, &[17, 0], &mut rows)?;
                Ok([a, b, rows].concat())
            });
        }
    }
}

#[test]
fn attention_over_two_pages() {
    let mut rng = Rng(2);
    let (held, heads, kv_heads, d) = (67, 4, 2, 6);
    let (k, v) = (numbers(&mut rng, held * kv_heads * d), numbers(&mut rng, held * kv_heads * d));
    let q = numbers(&mut rng, 3 * heads * d);
    for mask in [Mask::Causal, Mask::Window { positions: 5 }, Mask::Full] {
        compare("attention", |backend| {
            let mut kv = backend.kv_layer(KvShape { heads: kv_heads, head_dim: d, capacity: held })?;
            backend.kv_append(&mut kv, &k, &v)?;
            let mut out = vec![0.0; q.len()];
            backend.attention(&kv, mask, heads, held - 3, &q, &mut out)?;
            Ok(out)
        });
    }
}

#[test]
fn glue() {
    let mut rng = Rng(3);
    let spec = RopeSpec {
        head_dim: 6,
        rotary_dim: 4,
        theta: 1e4,
        pairing: Pairing::HalfSplit,
        scaling: RopeScaling::None,
    };
    let table = RopeTable::new(spec, 9).unwrap();
    let (weight, bias, x) = (numbers(&mut rng, 12), numbers(&mut rng, 12), numbers(&mut rng, 36));
    compare("glue", |backend| {
        let (mut a, mut b) = (vec![0.0; 36], vec![0.0; 36]);
        backend.rms_norm(&weight, 1e-5, &x, &mut a)?;
        backend.layer_norm(&weight, &bias, 1e-5, &x, &mut b)?;
        backend.rope(&table, &[3, 0, 8], &mut a)?;
        backend.silu_mul(&mut a, &b)?;
        backend.gelu(&mut b)?;
        backend.add(&mut a, &b)?;
        backend.add(&mut a, &bias)?;
        Ok(a)
    });
}

#[test]
fn the_first_fault_is_named_whoever_meets_it() {
    // Long enough for several parts, each of several checks; faults of every kind in the last of them.
    let len = if cfg!(miri) { 1 << 13 } else { 1 << 19 };
    let (usual, large) = (vec![1.0; len], vec![3e38; len]);
    let with = |faults: &[usize]| {
        let mut x = vec![2.0; len];
        faults.iter().for_each(|i| x[*i] = f32::NAN);
        x
    };
    for (gate, up) in [
        (with(&[len - 1, len - 2]), with(&[3])),
        (usual.clone(), with(&[len - 1, len / 2])),
        (large.clone(), with(&[len - 1])),
        (large, usual.clone()),
        (vec![3e38; len], vec![3e38; len]),
    ]
    .into_iter()
    .take(if cfg!(miri) { 2 } else { 5 })
    {
        compare("silu_mul", |backend| {
            let mut gate = gate.clone();
            backend.silu_mul(&mut gate, &up).map(|()| gate)
        });
        compare("add", |backend| {
            let mut gate = gate.clone();
            backend.add(&mut gate, &up).map(|()| gate)
        });
        compare("add a row", |backend| {
            let mut gate = gate.clone();
            backend.add(&mut gate, &up[len - len / 4..]).map(|()| gate)
        });
    }
}

/// Any thread may be the one that calls: what it leaves behind is the backend's, once.
#[test]
fn lines_are_kept_once_whichever_threads_call() {
    let mut rng = Rng(9);
    let (rows, cols, tokens) = (16, 70, 17);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let cpu = Cpu::new(isa, 2).unwrap();
        let weights = numbers(&mut rng, rows * cols);
        let matrix = QuantMatrix::from_f32_blocks(rows, cols, BlockLength::B32, &weights).unwrap();
        let matrix = cpu.prepare(matrix).unwrap();
        let x = numbers(&mut rng, tokens * cols);
        let call = || {
            let mut out = vec![0.0; tokens * rows];
            cpu.linear(&[&matrix], &x, tokens, &mut [&mut out]).unwrap();
        };
        call();
        let once = cpu.spare.bytes();
        // What is told before: four bytes for each activation, in whole lines.
        assert!((1..=4 * tokens * cols).contains(&once), "{once}");
        for _ in 0..3 {
            std::thread::scope(|scope| {
                scope.spawn(call);
            });
        }
        assert_eq!(cpu.spare.bytes(), once, "{isa}");
    }
}
