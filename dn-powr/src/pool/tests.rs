use dn_core::Canonical;
use proptest::prelude::*;

use super::*;

fn atto(n: u128) -> Amount {
    Amount::from_atto(n)
}

#[test]
fn a_life_by_hand() {
    let mut pool = StakePool::default();
    assert_eq!(pool.reward(atto(1)), Err(PoolError::Empty));
    assert_eq!(pool.deposit(atto(100)), Ok(100));
    pool.reward(atto(50)).expect("has shares"); // a share is worth 1.5
    assert_eq!(pool.deposit(atto(100)), Ok(66)); // ⌊100 / 1.5⌋
    assert_eq!((pool.tokens(), pool.shares()), (atto(250), 166));
    assert_eq!(pool.value_of(66), atto(99)); // ⌊66 · 250 / 166⌋: never more than was paid
    assert_eq!(pool.slash(1_000), atto(25));
    assert_eq!(pool.withdraw(100), Ok(atto(135))); // ⌊100 · 225 / 166⌋
    assert_eq!(pool.withdraw(67), Err(PoolError::Shares { found: 67, available: 66 }));
    assert_eq!(pool.withdraw(66), Ok(atto(90)));
    assert_eq!(pool, StakePool::default());
}

#[test]
fn edges() {
    let mut pool = StakePool::default();
    assert_eq!(pool.deposit(atto(0)), Err(PoolError::TooSmall { amount: atto(0) }));
    pool.deposit(atto(1)).expect("first");
    pool.reward(atto(9)).expect("has shares");
    assert_eq!(pool.deposit(atto(9)), Err(PoolError::TooSmall { amount: atto(9) }));
    assert_eq!(pool.deposit(atto(u128::MAX)), Err(PoolError::Overflow { amount: atto(u128::MAX) }));
    assert_eq!(pool.reward(atto(u128::MAX)), Err(PoolError::Overflow { amount: atto(u128::MAX) }));
    assert_eq!((pool.tokens(), pool.shares()), (atto(10), 1));
    assert_eq!(pool.slash(10_000), atto(10));
    assert_eq!(pool.deposit(atto(5)), Err(PoolError::Worthless { shares: 1 }));
    assert_eq!(pool.withdraw(1), Ok(Amount::ZERO));
    assert_eq!(StakePool::from_bytes(&pool.to_bytes()), Ok(pool));
}

/// A part that rounding makes the whole would close the pool to everybody else.
#[test]
fn only_a_whole_slash_makes_shares_worthless() {
    for start in 1..40 {
        let mut pool = StakePool::default();
        pool.deposit(atto(start)).expect("first");
        for bps in [0, 1, 500, 9_999, 9_999, 1] {
            let before = pool.tokens().atto();
            let up = (before * u128::from(bps)).div_ceil(10_000);
            assert_eq!(pool.slash(bps), atto(up.min(before - 1)), "{start}");
        }
        let bought = pool.deposit(atto(100)).expect("shares have a price");
        assert!((99..=100).contains(&pool.value_of(bought).atto()));
        let left = pool.tokens();
        assert_eq!((pool.slash(10_000), pool.tokens()), (left, Amount::ZERO));
    }
    assert_eq!(StakePool::default().slash(1), Amount::ZERO);
}

#[derive(Debug, Clone)]
enum Step {
    Deposit(usize, u128),
    Withdraw(usize, u8),
    Reward(u128),
    Slash(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = || prop_oneof![0..20u128, 0..1_000_000u128, 0..1u128 << 90];
    let step = prop_oneof![
        3 => (0..4usize, amount()).prop_map(|(who, a)| Step::Deposit(who, a)),
        3 => (0..4usize, any::<u8>()).prop_map(|(who, part)| Step::Withdraw(who, part)),
        1 => amount().prop_map(Step::Reward),
        1 => (0..=10_000u16).prop_map(Step::Slash),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// In − out = what the pool holds, shares are those of the members, and neither a deposit nor a withdrawal lowers the
    /// price of a share for those who stay.
    #[test]
    fn creates_no_value(steps in steps()) {
        let mut pool = StakePool::default();
        let mut held = [0u128; 4];
        let (mut inflow, mut outflow) = (0u128, 0u128);
        for step in steps {
            let before = pool;
            let keeps_price = match step {
                Step::Deposit(who, a) => {
                    if let Ok(bought) = pool.deposit(atto(a)) {
                        held[who] += bought;
                        inflow += a;
                        prop_assert!(pool.value_of(bought).atto() <= a, "a deposit is worth no more than it was");
                    }
                    true
                }
                Step::Withdraw(who, part) => {
                    let shares = held[who] / 255 * u128::from(part);
                    outflow += pool.withdraw(shares).expect("held").atto();
                    held[who] -= shares;
                    true
                }
                Step::Reward(a) => {
                    if pool.reward(atto(a)).is_ok() {
                        inflow += a;
                    }
                    true
                }
                Step::Slash(bps) => {
                    outflow += pool.slash(bps).atto();
                    false
                }
            };
            prop_assert_eq!(pool.tokens().atto(), inflow - outflow);
            prop_assert_eq!(pool.shares(), held.iter().sum::<u128>());
            if keeps_price && before.shares > 0 && pool.shares > 0 {
                use dn_core::wide::mul;
                // tokens' / shares' ≥ tokens / shares, by cross multiplication.
                prop_assert!(mul(pool.tokens.atto(), before.shares) >= mul(before.tokens.atto(), pool.shares));
            }
        }
    }

    /// All values together are at most what the pool holds.
    #[test]
    fn claims_are_covered(tokens: u128, parts in prop::collection::vec(0..=1u128 << 100, 1..10)) {
        let pool = StakePool { tokens: atto(tokens), shares: parts.iter().sum() };
        let mut claimed = 0u128;
        for p in parts {
            claimed += pool.value_of(p).atto();
        }
        prop_assert!(claimed <= tokens);
    }
}
