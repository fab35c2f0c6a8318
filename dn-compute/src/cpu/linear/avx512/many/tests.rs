use super::*;
use crate::cpu::Isa;
use crate::cpu::isa::Level;
use crate::cpu::linear::cases;

/// One instruction for product and sum, two instructions, and plain integers: the same bits.
#[test]
fn ways_to_multiply_agree() {
    let Some(cpu) = cases::cpu(Isa::Avx512) else { return };
    assert!(matches!(cpu.level, Level::Avx512(_)), "it was asked for");
    let check = |name, fused| {
        cases::check(&cpu, name, |w, acts, groups, out| {
            let (work, mut scratch) = (Work { w, acts, out, fused }, Scratch::default());
            // SAFETY: the level proves the features, the processor is asked for the one beyond; nobody else writes.
            unsafe {
                match (w.bits, w.minima) {
                    (Bits::Eight, false) => work.run::<false, false>(groups, &mut scratch),
                    (Bits::Eight, true) => work.run::<false, true>(groups, &mut scratch),
                    (Bits::Four { .. }, false) => work.run::<true, false>(groups, &mut scratch),
                    (Bits::Four { .. }, true) => work.run::<true, true>(groups, &mut scratch),
                }
            }
        });
    };
    check("two instructions", false);
    if is_x86_feature_detected!("avx512ifma") {
        check("one instruction", true);
    }
}
