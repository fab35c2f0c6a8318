//! Subtensor's own expectations, from `pallets/subtensor/src/tests/epoch.rs` at commit 14bc6f9f; every test names the one it follows.
//! Its neurons are validators first and miners after; weights on oneself, which the chain masks, are rows of zeros here.
#![allow(clippy::unwrap_used)]

use dn_sim::baseline::yuma::{BondStorage, Epoch, Matrix, Params, Version, Yuma};
use dn_sim::eval::answer;
use fixed::types::I32F32;
use serde_json::{Value, json};

/// The chain cuts a share to 16 bits when it stores it.
fn stored(shares: &[I32F32]) -> Vec<u16> {
    shares.iter().map(|share| (*share * I32F32::from_num(65_535)).to_num()).collect()
}

fn stored_bonds(yuma: &Yuma<I32F32>) -> Vec<Vec<u16>> {
    let cut = |bond: &f64| (bond * 65_535.0).round() as u16;
    yuma.bonds().unwrap().iter().map(|row| row.iter().map(cut).collect()).collect()
}

fn classic() -> Yuma<I32F32> {
    let params = Params { version: Version::One, storage: BondStorage::U16, ..Params::default() };
    Yuma::new(params).unwrap()
}

fn step(yuma: &mut Yuma<I32F32>, stake: &[f64], rows: &[&[f64]]) -> Epoch<I32F32> {
    yuma.step(stake, &Matrix::from_rows(rows).unwrap()).unwrap()
}

/// `test_bonds`: the stored bonds exactly (those of the last epoch stand in its comments), and the dividends of its comments to their last digit.
#[test]
fn test_bonds() {
    const ALL: &[f64] = &[16_383.0, 32_767.0, 49_149.0, 65_535.0];
    const NONE: &[f64] = &[0.0; 4];
    const LAST: &[f64] = &[0.0, 0.0, 0.0, 65_535.0];
    type Expected = ([&'static [f64]; 4], usize, [u16; 4], [f64; 4]);
    let epochs: [Expected; 8] = [
        (
            [ALL; 4],
            0,
            [16_383, 32_767, 49_151, 65_535],
            [0.0999999978, 0.1999999983, 0.3000000012, 0.4000000022],
        ),
        (
            [NONE, ALL, ALL, ALL],
            0,
            [14_582, 32_767, 49_151, 65_535],
            [0.0899967032, 0.2022211233, 0.303334432, 0.404447741],
        ),
        (
            [NONE, NONE, ALL, ALL],
            0,
            [12_603, 28_321, 49_151, 65_535],
            [0.0809936118, 0.1819995677, 0.3158592721, 0.421147548],
        ),
        ([NONE, NONE, NONE, ALL], 3, [12_602, 28_320, 49_150, 65_535], [0.0; 4]),
        (
            [NONE, NONE, LAST, ALL],
            3,
            [10_951, 24_609, 49_150, 65_535],
            [0.0728874663, 0.1637972582, 0.3271309866, 0.4361842885],
        ),
        (
            [NONE, NONE, LAST, ALL],
            3,
            [9_559, 21_482, 49_150, 65_535],
            [0.0655988548, 0.1474132247, 0.3372762585, 0.4497116616],
        ),
        (
            [NONE, NONE, LAST, ALL],
            3,
            [8_376, 18_824, 49_150, 65_535],
            [0.0590361361, 0.1326722752, 0.3464062694, 0.4618853189],
        ),
        (
            [NONE, NONE, LAST, ALL],
            3,
            [7_363, 16_549, 49_150, 65_535],
            [0.053130352, 0.1194037423, 0.3546237142, 0.472842191],
        ),
    ];
    let mut yuma = classic();
    for (number, (rows, miner, bonds, dividends)) in epochs.into_iter().enumerate() {
        let epoch = step(&mut yuma, &[1.0, 2.0, 3.0, 4.0], &rows);
        let column: Vec<u16> = stored_bonds(&yuma).iter().map(|row| row[miner]).collect();
        assert_eq!(column, bonds, "epoch {number}");
        for (found, expected) in epoch.dividends.iter().zip(dividends) {
            assert!((found.to_num::<f64>() - expected).abs() < 2e-10, "epoch {number}: {found}, {expected}");
        }
    }
}

/// `test_active_stake`: a validator without active stake keeps its bonds and loses a tenth of them.
#[test]
fn test_active_stake() {
    let rows: [&[f64]; 2] = [&[32_767.0, 32_767.0]; 2];
    let mut yuma = classic();
    let epoch = step(&mut yuma, &[1.0, 1.0], &rows);
    assert_eq!(stored(&epoch.dividends), [32_767, 32_767]);
    assert_eq!(stored_bonds(&yuma), [[65_535, 65_535], [65_535, 65_535]]);
    let epoch = step(&mut yuma, &[1.0, 0.0], &rows);
    assert_eq!(stored(&epoch.dividends), [36_044, 29_490]);
    assert_eq!(stored_bonds(&yuma), [[65_535, 65_535], [53_619, 53_619]]);
    let epoch = step(&mut yuma, &[1.0, 1.0], &rows);
    assert_eq!(stored(&epoch.dividends), [35_716, 29_818]);
    assert_eq!(stored_bonds(&yuma), [[65_535, 65_535], [54_712, 54_712]]);
}

/// `test_1_graph` and `test_10_graph`: nobody rates anyone but itself.
#[test]
fn test_1_graph() {
    for neurons in [1, 10] {
        let mut yuma = classic();
        let weights = Matrix::zeros(neurons, neurons).unwrap();
        let epoch = yuma.step(&vec![1e9; neurons], &weights).unwrap();
        for zeros in [&epoch.dividends, &epoch.incentive, &epoch.consensus, &epoch.validator_trust] {
            assert_eq!(stored(zeros), vec![0; neurons]);
        }
    }
}

/// `test_512_graph`: 64 validators of equal stake rate 448 servers alike.
#[test]
fn test_512_graph() {
    let mut yuma = classic();
    let weights = Matrix::from_rows(&vec![vec![65_535.0; 448]; 64]).unwrap();
    for _ in 0..3 {
        let epoch = yuma.step(&[100_000_000.0; 64], &weights).unwrap();
        assert_eq!(stored(&epoch.consensus), [146; 448]);
        assert_eq!(stored(&epoch.incentive), [146; 448]);
        assert_eq!(stored(&epoch.dividends), [1_023; 64]);
        assert_eq!(stored_bonds(&yuma), [[65_535; 448]; 64]);
    }
}

/// `setup_yuma_3_scenario`.
fn scenario() -> Params {
    Params {
        bond_penalty: 0.0,
        bonds_moving_average: 0.975,
        liquid_alpha: true,
        alpha_low: 0.1,
        alpha_high: 0.3,
        ..Params::default()
    }
}

/// Weights by the one server that each validator supports; the last entry holds for all epochs after.
fn supports(servers: usize, epochs: &[[usize; 3]], count: usize) -> Vec<Vec<Vec<f64>>> {
    let row = |server: &usize| (0..servers).map(|j| if j == *server { 65_535.0 } else { 0.0 }).collect();
    let epoch = |number: usize| epochs[number.min(epochs.len() - 1)].iter().map(row).collect();
    (0..count).map(epoch).collect()
}

struct Scenario {
    params: Params,
    stake: [f64; 3],
    weights: Vec<Vec<Vec<f64>>>,
    bonds: Vec<[Vec<f64>; 3]>,
    dividends: Vec<[f64; 3]>,
}

/// Published to four decimals and tested there to 1e-3.
fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

impl Scenario {
    /// In the chain's arithmetic and storage, in floats, and as a document.
    fn check(&self) {
        let chain = Params { storage: BondStorage::U16, ..self.params.clone() };
        let mut fixed = Yuma::<I32F32>::new(chain).unwrap();
        let mut float = Yuma::<f64>::new(self.params.clone()).unwrap();
        for (number, rows) in self.weights.iter().enumerate() {
            let epoch = fixed.step(&self.stake, &Matrix::from_rows(rows).unwrap()).unwrap();
            let dividends: Vec<f64> = epoch.dividends.iter().map(|share| share.to_num()).collect();
            self.compare(number, &dividends, &fixed.bonds().unwrap());
            let epoch = float.step(&self.stake, &Matrix::from_rows(rows).unwrap()).unwrap();
            self.compare(number, &epoch.dividends, &float.bonds().unwrap());
        }
        self.check_document();
    }

    fn compare(&self, number: usize, dividends: &[f64], bonds: &[Vec<f64>]) {
        for (validator, expected) in self.dividends[number].iter().enumerate() {
            close(dividends[validator], *expected, 1e-4, &format!("epoch {number}, dividend {validator}"));
            for (miner, expected) in self.bonds[number][validator].iter().enumerate() {
                let what = format!("epoch {number}, bond of {validator} in {miner}");
                close(bonds[validator][miner], *expected, 1e-4, &what);
            }
        }
    }

    fn check_document(&self) {
        let document = json!({
            "stake": self.stake, "weights_per_epoch": self.weights, "kappa": 32_767, "bond_penalty": 0,
            "liquid_alpha": self.params.liquid_alpha, "alpha_low": "0.1", "alpha_high": 0.3,
            "alpha_steepness": 10, "bond_rate": 0.025,
        });
        let line = json!({ "id": 0, "op": "yuma3", "in": document }).to_string();
        let result = serde_json::from_str::<Value>(&answer(&line)).unwrap()["out"].take();
        let floats = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
        for number in 0..self.weights.len() {
            let bonds: Vec<Vec<f64>> = serde_json::from_value(result["bonds"][number].clone()).unwrap();
            self.compare(number, &floats(&result["dividends"][number]), &bonds);
        }
    }
}

fn pairs(bonds: [[[f64; 2]; 3]; 6]) -> Vec<[Vec<f64>; 3]> {
    bonds.iter().map(|rows| rows.map(|row| row.to_vec())).collect()
}

/// `test_yuma_3_kappa_moves_first`.
#[test]
fn test_yuma_3_kappa_moves_first() {
    let bonds = [
        [[0.1013, 0.0], [0.1013, 0.0], [0.1013, 0.0]],
        [[0.0908, 0.1013], [0.3697, 0.0], [0.3697, 0.0]],
        [[0.0815, 0.1924], [0.3170, 0.1013], [0.5580, 0.0]],
        [[0.0731, 0.2742], [0.2765, 0.1924], [0.4306, 0.1013]],
        [[0.0656, 0.3478], [0.2435, 0.2742], [0.3589, 0.1924]],
        [[0.0588, 0.4139], [0.2157, 0.3478], [0.3089, 0.2742]],
    ];
    let dividends = vec![
        [0.8000, 0.1000, 0.1000],
        [1.0000, 0.0000, 0.0000],
        [0.9382, 0.0618, 0.0000],
        [0.8819, 0.0773, 0.0407],
        [0.8564, 0.0844, 0.0592],
        [0.8418, 0.0884, 0.0697],
    ];
    let weights = supports(2, &[[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], 6);
    Scenario { params: scenario(), stake: [8.0, 1.0, 1.0], weights, bonds: pairs(bonds), dividends }.check();
}

/// `test_yuma_3_kappa_moves_second`.
#[test]
fn test_yuma_3_kappa_moves_second() {
    let bonds = [
        [[0.1013, 0.0], [0.1013, 0.0], [0.1013, 0.0]],
        [[0.1924, 0.0], [0.0908, 0.2987], [0.1924, 0.0]],
        [[0.1715, 0.1013], [0.0815, 0.3697], [0.4336, 0.0]],
        [[0.1531, 0.1924], [0.0731, 0.4336], [0.3608, 0.1013]],
        [[0.1369, 0.2742], [0.0656, 0.4910], [0.3103, 0.1924]],
        [[0.1225, 0.3478], [0.0588, 0.5426], [0.2712, 0.2742]],
    ];
    let dividends = vec![
        [0.8000, 0.1000, 0.1000],
        [0.8446, 0.0498, 0.1056],
        [0.6868, 0.3132, 0.0000],
        [0.7421, 0.2090, 0.0489],
        [0.7625, 0.1706, 0.0669],
        [0.7730, 0.1508, 0.0762],
    ];
    let weights = supports(2, &[[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]], 6);
    Scenario { params: scenario(), stake: [8.0, 1.0, 1.0], weights, bonds: pairs(bonds), dividends }.check();
}

/// `test_yuma_3_kappa_moves_last`.
#[test]
fn test_yuma_3_kappa_moves_last() {
    let bonds = [
        [[0.1013, 0.0], [0.1013, 0.0], [0.1013, 0.0]],
        [[0.1924, 0.0], [0.0908, 0.2987], [0.1924, 0.0]],
        [[0.2742, 0.0], [0.0815, 0.5081], [0.1715, 0.2987]],
        [[0.2416, 0.1013], [0.0731, 0.5580], [0.1531, 0.3697]],
        [[0.2141, 0.1924], [0.0656, 0.6028], [0.1369, 0.4336]],
        [[0.1903, 0.2742], [0.0588, 0.6430], [0.1225, 0.4910]],
    ];
    let dividends = vec![
        [0.8000, 0.1000, 0.1000],
        [0.8446, 0.0498, 0.1056],
        [0.8966, 0.0333, 0.0701],
        [0.4663, 0.3210, 0.2127],
        [0.5976, 0.2340, 0.1683],
        [0.6592, 0.1932, 0.1475],
    ];
    let weights = supports(2, &[[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]], 6);
    Scenario { params: scenario(), stake: [8.0, 1.0, 1.0], weights, bonds: pairs(bonds), dividends }.check();
}

/// `test_yuma_3_one_epoch_switch`.
#[test]
fn test_yuma_3_one_epoch_switch() {
    let bonds = [
        [[0.1013, 0.0], [0.1013, 0.0], [0.1013, 0.0]],
        [[0.1924, 0.0], [0.1924, 0.0], [0.1924, 0.0]],
        [[0.2742, 0.0], [0.2742, 0.0], [0.1715, 0.2987]],
        [[0.3478, 0.0], [0.3478, 0.0], [0.2554, 0.2618]],
        [[0.4139, 0.0], [0.4139, 0.0], [0.3309, 0.2312]],
        [[0.4733, 0.0], [0.4733, 0.0], [0.3987, 0.2051]],
    ];
    let dividends = vec![
        [0.3300, 0.3300, 0.3400],
        [0.3300, 0.3300, 0.3400],
        [0.3782, 0.3782, 0.2436],
        [0.3628, 0.3628, 0.2745],
        [0.3541, 0.3541, 0.2917],
        [0.3487, 0.3487, 0.3026],
    ];
    let weights = supports(2, &[[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]], 6);
    Scenario { params: scenario(), stake: [33.0, 33.0, 34.0], weights, bonds: pairs(bonds), dividends }
        .check();
}

/// `test_yuma_3_liquid_alpha_disabled`; its first server column is a validator's.
#[test]
fn test_yuma_3_liquid_alpha_disabled() {
    let bonds = [
        [[0.0250, 0.0], [0.0250, 0.0], [0.0250, 0.0]],
        [[0.0494, 0.0], [0.0494, 0.0], [0.0494, 0.0]],
        [[0.0731, 0.0], [0.0731, 0.0], [0.0481, 0.0250]],
        [[0.0963, 0.0], [0.0963, 0.0], [0.0719, 0.0244]],
        [[0.1189, 0.0], [0.1189, 0.0], [0.0951, 0.0238]],
        [[0.1409, 0.0], [0.1409, 0.0], [0.1178, 0.0232]],
    ];
    let dividends = vec![
        [0.3300, 0.3300, 0.3400],
        [0.3300, 0.3300, 0.3400],
        [0.3734, 0.3734, 0.2532],
        [0.3611, 0.3611, 0.2779],
        [0.3541, 0.3541, 0.2919],
        [0.3495, 0.3495, 0.3009],
    ];
    let weights = supports(2, &[[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]], 6);
    let params = Params { liquid_alpha: false, ..scenario() };
    Scenario { params, stake: [33.0, 33.0, 34.0], weights, bonds: pairs(bonds), dividends }.check();
}

/// `test_yuma_3_stable_miner`.
#[test]
fn test_yuma_3_stable_miner() {
    let bonds = [
        [[0.0507, 0.0000, 0.0507], [0.0507, 0.0000, 0.0507], [0.0507, 0.0000, 0.0507]],
        [[0.0962, 0.0000, 0.0962], [0.0455, 0.1000, 0.0962], [0.0962, 0.0000, 0.0962]],
        [[0.0863, 0.0507, 0.1371], [0.0408, 0.1405, 0.1371], [0.1770, 0.0000, 0.1371]],
        [[0.0774, 0.0962, 0.1739], [0.0367, 0.1770, 0.1739], [0.1579, 0.0507, 0.1739]],
        [[0.0694, 0.1371, 0.2069], [0.0329, 0.2097, 0.2069], [0.1411, 0.0962, 0.2069]],
        [[0.0623, 0.1739, 0.2366], [0.0296, 0.2391, 0.2366], [0.1263, 0.1371, 0.2366]],
    ];
    let dividends = vec![
        [0.8000, 0.1000, 0.1000],
        [0.8226, 0.0745, 0.1028],
        [0.7750, 0.1685, 0.0565],
        [0.7864, 0.1372, 0.0764],
        [0.7912, 0.1241, 0.0847],
        [0.7937, 0.1173, 0.0890],
    ];
    // Each validator halves its weight between one of the first two servers and the third.
    let mut weights = supports(3, &[[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]], 6);
    for row in weights.iter_mut().flatten() {
        row[2] = 65_535.0;
    }
    let bonds = bonds.iter().map(|rows| rows.map(|row| row.to_vec())).collect();
    Scenario { params: scenario(), stake: [8.0, 1.0, 1.0], weights, bonds, dividends }.check();
}

/// `test_yuma_3_bonds_reset`: the first server's bonds are taken away before epoch 20.
#[test]
fn test_yuma_3_bonds_reset() {
    let expected = [
        (0, [[0.1013, 0.0000], [0.1013, 0.0000]], [0.8000, 0.1000]),
        (1, [[0.1924, 0.0000], [0.0908, 0.2987]], [0.8944, 0.0528]),
        (2, [[0.1715, 0.1013], [0.0815, 0.3697]], [0.5230, 0.2385]),
        (19, [[0.0269, 0.8539], [0.0131, 0.8975]], [0.7919, 0.1040]),
        (20, [[0.0000, 0.8687], [0.0000, 0.9079]], [0.7928, 0.1036]),
        (21, [[0.0000, 0.8820], [0.2987, 0.6386]], [0.8467, 0.0766]),
        (40, [[0.8687, 0.0578], [0.9079, 0.0523]], [0.7928, 0.1036]),
    ];
    let choices: Vec<[usize; 3]> = (0..=40)
        .map(|epoch| match epoch {
            0 => [0, 0, 0],
            1 => [0, 1, 1],
            2..=20 => [1, 1, 1],
            21 => [1, 0, 0],
            _ => [0, 0, 0],
        })
        .collect();
    // What is cut off adds up over 41 epochs; the published figures are computed without.
    for (storage, tolerance) in [(BondStorage::U16, 5e-4), (BondStorage::Full, 1e-4)] {
        let mut yuma = Yuma::<I32F32>::new(Params { storage, ..scenario() }).unwrap();
        for (number, rows) in supports(2, &choices, 41).iter().enumerate() {
            if number == 20 {
                yuma.reset_miner(0);
            }
            let epoch = yuma.step(&[8.0, 1.0, 1.0], &Matrix::from_rows(rows).unwrap()).unwrap();
            let Some((_, bonds, dividends)) = expected.iter().find(|(epoch, _, _)| *epoch == number) else {
                continue;
            };
            let found = yuma.bonds().unwrap();
            // The two small validators are alike.
            for (validator, kind) in [(0, 0), (1, 1), (2, 1)] {
                let what = format!("{storage:?}, epoch {number}, validator {validator}");
                close(epoch.dividends[validator].to_num(), dividends[kind], tolerance, &what);
                for (miner, expected) in bonds[kind].iter().enumerate() {
                    close(found[validator][miner], *expected, tolerance, &what);
                }
            }
        }
    }
}
