//! The conformance suite, instantiated for every instruction set and several thread counts.

use dn_compute::conformance;
use dn_compute::cpu::{Cpu, CpuError, Isa};
use dn_compute::reference::Reference;
use dn_compute::spec::{Backend, BackendInfo, KvLayer, Mask, Matrix, NumericError, QuantMatrix, RopeTable};

#[allow(clippy::print_stdout, reason = "a skip must be seen")]
fn check(isa: Isa, threads: usize) {
    if !isa.is_available() {
        println!("SKIPPED: this machine has no {isa}");
        return;
    }
    let cpu = Cpu::new(isa, threads).expect("an instruction set that is there");
    match conformance::run(&cpu) {
        Ok(report) => {
            println!("{isa}, {threads} threads: {report:?}");
            assert!(report.outputs > 1_000_000 && report.refusals > 50, "{report:?}");
        }
        Err(mismatch) => panic!("{isa}, {threads} threads: {mismatch}"),
    }
}

#[test]
fn scalar() {
    check(Isa::Scalar, 1);
    check(Isa::Scalar, 2);
}

#[test]
fn avx2() {
    for threads in 1..=3 {
        check(Isa::Avx2, threads);
    }
}

#[test]
fn avx512() {
    for threads in 1..=3 {
        check(Isa::Avx512, threads);
    }
}

#[test]
fn avx_vnni() {
    for threads in 1..=3 {
        check(Isa::AvxVnni, threads);
    }
}

#[test]
fn amx() {
    for threads in 1..=3 {
        check(Isa::Amx, threads);
    }
}

#[test]
fn neon() {
    for threads in 1..=3 {
        check(Isa::Neon, threads);
    }
}

#[test]
fn neon_dot() {
    for threads in 1..=3 {
        check(Isa::NeonDot, threads);
    }
}

/// Whatever is added to the list is added above.
#[test]
fn every_instruction_set_is_checked() {
    let here = include_str!("conformance.rs");
    for isa in Isa::ALL {
        assert!(here.contains(&format!("check(Isa::{isa:?}, ")), "{isa}");
    }
}

#[test]
fn the_suite_notices_a_wrong_bit() {
    // The suite itself must be able to fail: a backend that is one unit off in one operation.
    assert!(conformance::run(&Off).is_err());
}

#[test]
fn a_backend_that_cannot_start_says_why() {
    assert!(matches!(Cpu::new(Isa::Auto, 0), Err(CpuError::Threads { found: 0, .. })));
    assert!(matches!(Cpu::new(Isa::Auto, 5000), Err(CpuError::Threads { found: 5000, .. })));
    assert_eq!("avx2".parse::<Isa>(), Ok(Isa::Avx2));
    assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("sse9"));
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse::<Isa>(), Ok(isa));
        if !isa.is_available() {
            assert!(matches!(Cpu::new(isa, 1), Err(CpuError::IsaUnavailable { .. })));
        }
    }
}

/// The reference, but for the last bit of large sums.
#[derive(Debug)]
struct Off;

impl Backend for Off {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "off", isa: "scalar", threads: 1 }
    }
    fn prepare(&self, matrix: QuantMatrix) -> Result<Matrix, NumericError> {
        Reference.prepare(matrix)
    }
    fn linear(
        &self,
        weights: &[&Matrix],
        x: &[f32],
        tokens: usize,
        out: &mut [&mut [f32]],
    ) -> Result<(), NumericError> {
        Reference.linear(weights, x, tokens, out)
    }
    fn embed(&self, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), NumericError> {
        Reference.embed(table, tokens, out)
    }
    fn rms_norm(&self, weight: &[f32], eps: f32, x: &[f32], out: &mut [f32]) -> Result<(), NumericError> {
        Reference.rms_norm(weight, eps, x, out)
    }
    fn rope(&self, table: &RopeTable, positions: &[u32], x: &mut [f32]) -> Result<(), NumericError> {
        Reference.rope(table, positions, x)
    }
    fn kv_append(&self, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
        Reference.kv_append(kv, k, v)
    }
    fn attention(
        &self,
        kv: &KvLayer,
        mask: Mask,
        heads: usize,
        first: usize,
        q: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        Reference.attention(kv, mask, heads, first, q, out)
    }
    fn silu_mul(&self, gate: &mut [f32], up: &[f32]) -> Result<(), NumericError> {
        Reference.silu_mul(gate, up)
    }
    fn layer_norm(
        &self,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        Reference.layer_norm(weight, bias, eps, x, out)
    }
    fn gelu(&self, x: &mut [f32]) -> Result<(), NumericError> {
        Reference.gelu(x)
    }
    fn add(&self, x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
        Reference.add(x, y)?;
        if x.len() > 800 {
            x[800] = f32::from_bits(x[800].to_bits() ^ 1);
        }
        Ok(())
    }
}
