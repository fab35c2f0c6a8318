//! Who gets how much of a step.

/// Splits a budget evenly: nobody gets more than was wanted, and what one leaves goes to the others.
///
/// With a budget of at least the number of those who want something, each of them gets something.
pub(super) fn fair_shares(wanted: &[usize], budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wanted.len()).filter(|i| wanted[*i] > 0).collect();
    // Stable: among equals the oldest first.
    order.sort_by_key(|i| wanted[*i]);
    let mut shares = vec![0; wanted.len()];
    let mut left = budget;
    for (done, index) in order.iter().enumerate() {
        shares[*index] = wanted[*index].min(left.div_ceil(order.len() - done));
        left -= shares[*index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_are_fair(wanted in proptest::collection::vec(0usize..300, 0..20), budget in 0usize..600) {
            let shares = fair_shares(&wanted, budget);
            let total: usize = shares.iter().sum();
            prop_assert_eq!(total, budget.min(wanted.iter().sum()), "nothing is wasted, nothing exceeded");
            prop_assert!(shares.iter().zip(&wanted).all(|(share, wanted)| share <= wanted));
            // Who got less than wanted got at most one less than anybody.
            let most = shares.iter().copied().max().unwrap_or(0);
            for (share, wanted) in shares.iter().zip(&wanted) {
                prop_assert!(share == wanted || share + 1 >= most, "{:?} of {:?}", shares, wanted);
            }
        }
    }
}
