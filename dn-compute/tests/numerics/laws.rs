//! The laws that make checking cheap: no split of the work, by threads, tokens or keys, touches a bit.

use std::sync::LazyLock;

use dn_compute::cpu::{Cpu, Isa};
use dn_compute::reference::Reference;
use dn_compute::spec::{Backend, BlockLength, KvLayer, KvShape, Mask, Matrix, QuantMatrix};
use proptest::prelude::*;

/// The best instruction set on 1, 2, 3 and 5 threads.
static CPUS: LazyLock<Vec<Cpu>> =
    LazyLock::new(|| [1, 2, 3, 5].map(|n| Cpu::new(Isa::Auto, n).expect("threads")).into());

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|v| v.to_bits()).collect()
}

/// Values of mixed size from a seed: as good as generating each, and much faster.
fn floats(len: usize) -> impl Strategy<Value = Vec<f32>> {
    any::<u64>().prop_map(move |mut state| {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u32
        };
        let unit = |n: u32| n as f32 / (1 << 23) as f32 - 1.0;
        (0..len)
            .map(|_| match next() % 11 {
                0 => 0.0,
                1 => unit(next()) * 1e4,
                2 => unit(next()) * 1e-3,
                _ => unit(next()) * 4.0,
            })
            .collect()
    })
}

fn linear(backend: &dyn Backend, w: &Matrix, x: &[f32], tokens: usize) -> Vec<u32> {
    let mut out = vec![0.0; tokens * w.rows()];
    backend.linear(&[w], x, tokens, &mut [&mut out]).expect("valid shapes");
    bits(&out)
}

/// A prompt: heads of keys, queries per head, elements, inputs.
#[derive(Debug, Clone)]
struct Prompt {
    shape: KvShape,
    heads: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mask: Mask,
}

impl Prompt {
    fn positions(&self) -> usize {
        self.shape.capacity
    }

    fn append(&self, backend: &dyn Backend, kv: &mut KvLayer, from: usize, to: usize) {
        let row = self.shape.heads * self.shape.head_dim;
        backend
            .kv_append(kv, &self.k[from * row..to * row], &self.v[from * row..to * row])
            .expect("room and finite values");
    }

    fn attend(&self, backend: &dyn Backend, kv: &KvLayer, from: usize, to: usize) -> Vec<u32> {
        let row = self.heads * self.shape.head_dim;
        let mut out = vec![0.0; (to - from) * row];
        backend
            .attention(kv, self.mask, self.heads, from, &self.q[from * row..to * row], &mut out)
            .expect("valid shapes");
        bits(&out)
    }

    fn at_once(&self, backend: &dyn Backend) -> Vec<u32> {
        let mut kv = backend.kv_layer(self.shape).expect("a valid shape");
        self.append(backend, &mut kv, 0, self.positions());
        self.attend(backend, &kv, 0, self.positions())
    }
}

fn prompts() -> impl Strategy<Value = Prompt> {
    let sizes = (1usize..3, 1usize..4, 1usize..40, 1usize..140, prop_oneof![Just(usize::MAX), 1usize..100]);
    sizes.prop_flat_map(|(kv_heads, group, half, positions, window)| {
        let (d, heads) = (2 * half, kv_heads * group);
        let shape = KvShape { heads: kv_heads, head_dim: d, capacity: positions };
        let mask = if window == usize::MAX { Mask::Causal } else { Mask::Window { positions: window } };
        (floats(positions * heads * d), floats(positions * kv_heads * d), floats(positions * kv_heads * d))
            .prop_map(move |(q, k, v)| Prompt { shape, heads, q, k, v, mask })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_linear_layer_ignores_threads_and_neighbours(
        (rows, cols, tokens, w, x) in (1usize..150, 1usize..150, 1usize..20).prop_flat_map(|(r, c, t)| {
            (Just(r), Just(c), Just(t), floats(r * c), floats(t * c))
        }),
        length in 0usize..8,
    ) {
        // Half of the cases in blocks of 32, the others in all lengths.
        let length = BlockLength::ALL.get(length).copied().unwrap_or(BlockLength::B32);
        let w = QuantMatrix::from_f32_blocks(rows, cols, length, &w).expect("finite weights");
        let of_reference = Reference.prepare(w.clone()).expect("valid");
        let expected = linear(&Reference, &of_reference, &x, tokens);
        for cpu in CPUS.iter() {
            let w = cpu.prepare(w.clone()).expect("valid");
            prop_assert_eq!(&linear(cpu, &w, &x, tokens), &expected);
            for t in 0..tokens {
                let one = linear(cpu, &w, &x[t * cols..][..cols], 1);
                prop_assert_eq!(&one[..], &expected[t * rows..][..rows]);
            }
        }
    }

    #[test]
    fn decoding_equals_prefill(prompt in prompts(), chunk in 1usize..70) {
        let expected = prompt.at_once(&CPUS[0]);
        prop_assert_eq!(&prompt.at_once(&CPUS[2]), &expected);
        for cpu in [&CPUS[0], &CPUS[1]] {
            let mut kv = cpu.kv_layer(prompt.shape).expect("a valid shape");
            let mut found = Vec::new();
            for from in (0..prompt.positions()).step_by(chunk) {
                let to = prompt.positions().min(from + chunk);
                prompt.append(cpu, &mut kv, from, to);
                found.extend(prompt.attend(cpu, &kv, from, to));
            }
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn the_past_does_not_see_the_future(prompt in prompts(), cut in 0usize..1000) {
        let cut = cut % prompt.positions();
        let expected = prompt.at_once(&CPUS[0]);
        let mut other = prompt.clone();
        let row = other.shape.heads * other.shape.head_dim;
        for x in &mut other.k[(cut + 1) * row..] {
            *x = -*x * 77.0;
        }
        for x in &mut other.v[(cut + 1) * row..] {
            *x += 1e3;
        }
        let seen = (cut + 1) * other.heads * other.shape.head_dim;
        prop_assert_eq!(&other.at_once(&CPUS[1])[..seen], &expected[..seen]);
    }

    #[test]
    fn what_left_the_window_is_not_there(prompt in prompts(), window in 1usize..80, cut in 0usize..1000) {
        let mask = Mask::Window { positions: window };
        let prompt = Prompt { mask, ..prompt };
        let expected = prompt.at_once(&CPUS[0]);
        let cut = cut % prompt.positions();
        let mut other = prompt.clone();
        let row = other.shape.heads * other.shape.head_dim;
        for x in &mut other.k[..cut * row] {
            *x = -*x * 77.0;
        }
        for x in &mut other.v[..cut * row] {
            *x += 1e3;
        }
        let row = other.heads * other.shape.head_dim;
        let blind = (cut + window - 1).min(prompt.positions()) * row;
        prop_assert_eq!(&other.at_once(&CPUS[1])[blind..], &expected[blind..]);
        // A window that reaches the first key is no window.
        let wide = Prompt { mask: Mask::Window { positions: prompt.positions() }, ..prompt.clone() };
        let causal = Prompt { mask: Mask::Causal, ..prompt };
        prop_assert_eq!(wide.at_once(&CPUS[0]), causal.at_once(&CPUS[0]));
    }

    #[test]
    fn without_a_mask_only_the_split_of_the_queries_is_free(prompt in prompts(), chunk in 1usize..70) {
        let prompt = Prompt { mask: Mask::Full, ..prompt };
        let expected = prompt.at_once(&CPUS[0]);
        let positions = prompt.positions();
        for cpu in CPUS.iter() {
            let mut kv = cpu.kv_layer(prompt.shape).expect("a valid shape");
            prompt.append(cpu, &mut kv, 0, positions);
            let chunks = (0..positions).step_by(chunk).map(|from| (from, positions.min(from + chunk)));
            let found: Vec<u32> = chunks.flat_map(|(from, to)| prompt.attend(cpu, &kv, from, to)).collect();
            prop_assert_eq!(&found, &expected);
        }
        // The last position sees the same keys with and without a causal mask.
        let causal = Prompt { mask: Mask::Causal, ..prompt.clone() };
        let last = (positions - 1) * prompt.heads * prompt.shape.head_dim;
        prop_assert_eq!(&causal.at_once(&CPUS[0])[last..], &expected[last..]);
    }

    #[test]
    fn glue_ignores_threads_and_neighbours(
        (cols, x, y) in (1usize..90, 1usize..60).prop_flat_map(|(c, t)| (Just(c), floats(t * c), floats(t * c))),
    ) {
        let weight: Vec<f32> = y[..cols].to_vec();
        let all = |backend: &dyn Backend, x: &[f32], y: &[f32]| {
            let mut out = vec![0.0; x.len()];
            backend.rms_norm(&weight, 1e-5, x, &mut out).expect("finite");
            backend.silu_mul(&mut out, y).expect("finite");
            backend.add(&mut out, &weight).expect("finite");
            bits(&out)
        };
        let expected = all(&Reference, &x, &y);
        for cpu in CPUS.iter() {
            prop_assert_eq!(&all(cpu, &x, &y), &expected);
            let rows = x.chunks_exact(cols).zip(y.chunks_exact(cols));
            let found: Vec<u32> = rows.flat_map(|(x, y)| all(cpu, x, y)).collect();
            prop_assert_eq!(&found, &expected);
        }
    }
}

#[test]
fn a_clone_of_a_cache_shares_until_one_side_writes() {
    let cpu = &CPUS[0];
    let shape = KvShape { heads: 1, head_dim: 4, capacity: 200 };
    let mut a = cpu.kv_layer(shape).expect("valid");
    cpu.kv_append(&mut a, &[1.0; 4 * 70], &[2.0; 4 * 70]).expect("room");
    let mut b = a.clone();
    cpu.kv_append(&mut b, &[3.0; 4], &[4.0; 4]).expect("room");
    a.truncate(10);
    cpu.kv_append(&mut a, &[5.0; 4], &[6.0; 4]).expect("room");
    assert_eq!((a.len(), b.len()), (11, 71));
    assert_eq!((a.key(0, 9, 0), b.key(0, 9, 0)), (b.key(0, 10, 0), b.key(0, 10, 0)));
    assert_eq!((a.key_exponent(0, 10), b.key_exponent(0, 70)), (2 - 14, 1 - 14));
    assert_eq!((a.value(0, 10, 1), b.value(0, 70, 1)), (24_576, 16_384));
}

#[test]
fn a_forward_pass_inside_the_pool_gives_the_same_bits() {
    let w = QuantMatrix::from_f32(700, 64, &vec![0.3; 700 * 64]).expect("finite");
    let x: Vec<f32> = (0..64 * 9).map(|i| i as f32).collect();
    for cpu in CPUS.iter() {
        let w = cpu.prepare(w.clone()).expect("valid");
        let outside = linear(cpu, &w, &x, 9);
        let mut inside = Vec::new();
        cpu.enter(&mut || inside = linear(cpu, &w, &x, 9));
        assert_eq!(inside, outside);
    }
}
