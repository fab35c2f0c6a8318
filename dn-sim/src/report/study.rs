//! The runs in order: policies, attacks with their levels, and the runs of each.
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use super::metric::Metric;
use crate::outcome::{Cell, CellKey, Sample};
use crate::stats::Interval;

/// The policy that the others are compared with: it comes first.
const OWN_POLICY: &str = "powr";

/// An attack at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case<'a> {
    pub(super) attack: &'a str,
    pub(super) level: &'a str,
}

/// The runs, sorted.
pub(super) struct Study<'a> {
    /// By policy, attack, level, seed.
    pub(super) cells: Vec<&'a Cell>,
    pub(super) policies: Vec<&'a str>,
    pub(super) cases: Vec<Case<'a>>,
    /// For each policy and case, which of the cells.
    groups: Vec<Range<usize>>,
}

/// An attack's cases, which lie together.
pub(super) struct Attack<'a> {
    pub(super) name: &'a str,
    pub(super) cases: Range<usize>,
}

/// The mean run at one moment.
pub(super) struct Moment {
    pub(super) epoch: u32,
    /// One for each reader given to [`Study::course`]; absent when no run has a number there.
    pub(super) values: Vec<Option<Interval>>,
}

impl<'a> Study<'a> {
    pub(super) fn of(cells: &'a [Cell]) -> Self {
        let mut cells: Vec<&Cell> = cells.iter().collect();
        cells.sort_by(|a, b| in_order(&a.key, &b.key));
        let policies = distinct(cells.iter().map(|cell| cell.key.policy.as_str()), by_policy);
        let cases = distinct(cells.iter().map(|cell| Case::of(&cell.key)), |a, b| {
            natural(a.attack, b.attack).then_with(|| natural(a.level, b.level))
        });
        let mut groups = Vec::with_capacity(policies.len() * cases.len());
        let mut start = 0;
        for policy in &policies {
            for case in &cases {
                let count = cells[start..]
                    .iter()
                    .take_while(|cell| cell.key.policy == *policy && Case::of(&cell.key) == *case)
                    .count();
                groups.push(start..start + count);
                start += count;
            }
        }
        Self { cells, policies, cases, groups }
    }

    /// A key that two runs have.
    pub(super) fn repeated(&self) -> Option<&'a CellKey> {
        self.cells.windows(2).find(|pair| pair[0].key == pair[1].key).map(|pair| &pair[0].key)
    }

    pub(super) fn attacks(&self) -> Vec<Attack<'a>> {
        let mut attacks: Vec<Attack<'a>> = Vec::new();
        for (i, case) in self.cases.iter().enumerate() {
            match attacks.last_mut() {
                Some(attack) if attack.name == case.attack => attack.cases.end = i + 1,
                _ => attacks.push(Attack { name: case.attack, cases: i..i + 1 }),
            }
        }
        attacks
    }

    /// The runs of one policy and one case, by seed.
    pub(super) fn runs(&self, policy: usize, case: usize) -> &[&'a Cell] {
        &self.cells[self.groups[policy * self.cases.len() + case].clone()]
    }

    /// A metric over the seeds.
    pub(super) fn interval(&self, policy: usize, case: usize, metric: &Metric) -> Option<Interval> {
        Interval::of(self.runs(policy, case).iter().filter_map(|cell| (metric.read)(&cell.metrics)))
    }

    /// The runs of one policy and case in time, each reader averaged over the seeds.
    pub(super) fn course(&self, policy: usize, case: usize, readers: &[fn(&Sample) -> f64]) -> Vec<Moment> {
        let mut by_epoch: BTreeMap<u32, Vec<&Sample>> = BTreeMap::new();
        for sample in self.runs(policy, case).iter().flat_map(|cell| &cell.series) {
            by_epoch.entry(sample.epoch).or_default().push(sample);
        }
        by_epoch
            .into_iter()
            .map(|(epoch, samples)| Moment {
                epoch,
                values: readers
                    .iter()
                    .map(|read| Interval::of(samples.iter().map(|sample| read(sample))))
                    .collect(),
            })
            .collect()
    }
}

impl<'a> Case<'a> {
    fn of(key: &'a CellKey) -> Self {
        Self { attack: &key.attack, level: &key.level }
    }
}

fn distinct<T: Copy + PartialEq>(all: impl Iterator<Item = T>, order: fn(&T, &T) -> Ordering) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_by(order);
    all.dedup();
    all
}

fn in_order(a: &CellKey, b: &CellKey) -> Ordering {
    by_policy(&a.policy.as_str(), &b.policy.as_str())
        .then_with(|| natural(&a.attack, &b.attack))
        .then_with(|| natural(&a.level, &b.level))
        .then_with(|| a.seed.cmp(&b.seed))
}

fn by_policy(a: &&str, b: &&str) -> Ordering {
    (*a != OWN_POLICY).cmp(&(*b != OWN_POLICY)).then_with(|| natural(a, b))
}

/// Text with numbers in it, the numbers by value: `x9` before `x10`, `0.05` before `0.1`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let order = match (first_token(left), first_token(right)) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some((Token::Number(x), left_rest)), Some((Token::Number(y), right_rest))) => {
                (left, right) = (left_rest, right_rest);
                x.total_cmp(&y)
            }
            (Some((x, left_rest)), Some((y, right_rest))) => {
                (left, right) = (left_rest, right_rest);
                x.first().cmp(&y.first())
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

enum Token {
    Number(f64),
    Letter(char),
}

impl Token {
    /// Numbers stand where digits stand among the letters.
    fn first(&self) -> char {
        match self {
            Self::Number(_) => '0',
            Self::Letter(letter) => *letter,
        }
    }
}

fn first_token(text: &str) -> Option<(Token, &str)> {
    let letter = text.chars().next()?;
    let digits = |from: &str| from.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(text);
    if length == 0 {
        return Some((Token::Letter(letter), &text[letter.len_utf8()..]));
    }
    if let Some(fraction) = text[length..].strip_prefix('.').map(digits).filter(|count| *count > 0) {
        length += 1 + fraction;
    }
    let number = text[..length].parse().unwrap_or(f64::INFINITY);
    Some((Token::Number(number), &text[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_in_names_go_by_value() {
        let mut names = ["x100", "x9", "x10", "stake=0.45", "stake=0.3", "x", "", "x0.05", "x1.0", "x1", "é"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["", "stake=0.3", "stake=0.45", "x", "x0.05", "x1", "x1.0", "x9", "x10", "x100", "é"]
        );
        let mut policies = ["work", "stake", "powr", "eigentrust"];
        policies.sort_by(by_policy);
        assert_eq!(policies, ["powr", "eigentrust", "stake", "work"]);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-3x.=é]{0,5}", b in "[0-3x.=é]{0,5}", c in "[0-3x.=é]{0,5}") {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b) == Ordering::Equal, a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
