//! How demand is divided among workers.

/// Divides demand in proportion to weights, nobody beyond its room; what one cannot take goes to the others.
///
/// `shares` is overwritten. Ends after at most as many rounds as there are entries: each fills at least one.
pub(super) fn divide(demand: f64, weights: &[f64], room: &[f64], shares: &mut Vec<f64>) {
    shares.clear();
    shares.resize(weights.len(), 0.0);
    let mut left = demand;
    for _ in 0..weights.len() {
        let open = |i: usize, shares: &[f64]| weights[i] > 0.0 && shares[i] < room[i];
        let total: f64 = (0..weights.len()).filter(|i| open(*i, shares)).map(|i| weights[i]).sum();
        if left <= demand * 1e-9 || total <= 0.0 {
            return;
        }
        let (rate, mut spent, mut filled) = (left / total, 0.0, false);
        for i in 0..weights.len() {
            if !open(i, shares) {
                continue;
            }
            let wanted = rate * weights[i];
            let fits = room[i] - shares[i];
            filled |= wanted >= fits;
            if wanted >= fits {
                shares[i] = room[i];
            } else {
                shares[i] += wanted;
            }
            spent += wanted.min(fits);
        }
        left -= spent;
        if !filled {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        let mut shares = Vec::new();
        divide(6.0, &[1.0, 1.0, 2.0, 0.0], &[1.0, 10.0, 10.0, 10.0], &mut shares);
        // 1.5, 1.5, 3; the first takes 1 and leaves half a unit, of which the second takes a third.
        assert_eq!(shares[0], 1.0);
        assert!((shares[1] - 5.0 / 3.0).abs() < 1e-12 && (shares[2] - 10.0 / 3.0).abs() < 1e-12);
        assert_eq!(shares[3], 0.0);
        divide(100.0, &[1.0, 1.0], &[2.0, 3.0], &mut shares);
        assert_eq!(shares, [2.0, 3.0]);
    }

    proptest! {
        #[test]
        fn nobody_over_his_room_and_all_is_placed(
            entries in prop::collection::vec((0.0..10.0f64, 0.0..10.0f64), 1..30), demand in 0.0..200.0f64,
        ) {
            let (weights, room): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
            let mut shares = Vec::new();
            divide(demand, &weights, &room, &mut shares);
            prop_assert!(shares.iter().zip(&room).all(|(s, r)| (0.0..=*r).contains(s)));
            let most: f64 = weights.iter().zip(&room).filter(|(w, _)| **w > 0.0).map(|(_, r)| r).sum();
            let placed: f64 = shares.iter().sum();
            prop_assert!((placed - demand.min(most)).abs() < 1e-6 * (1.0 + demand));
        }
    }
}
