//! Pictures. Each has its own light background, so that it can be shown on any page, and says in its own words what it
//! shows.
mod canvas;
mod colour;
mod dots;
mod frame;
mod matrix;
mod trajectory;

use std::collections::BTreeSet;

use super::error::ReportError;
use super::study::Study;
use canvas::Fault;

/// A picture, ready to be written or put into a page.
pub(super) struct Plot {
    pub(super) file_name: String,
    pub(super) svg: String,
    pub(super) shows: Shows,
}

/// What a picture shows, so that the page finds its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    Gain,
    NetGain,
    Detection,
    HonestLoss,
    Gini,
    /// Trust over time in the attack of this place in [`Study::attacks`].
    Trust(usize),
    /// The share of rewards over time, likewise.
    Share(usize),
}

/// Draws everything.
pub(super) fn all(study: &Study<'_>) -> Result<Vec<Plot>, ReportError> {
    let mut plots = vec![
        finish("matrix.svg".to_owned(), Shows::Gain, matrix::gain(study))?,
        finish("matrix-net.svg".to_owned(), Shows::NetGain, matrix::net_gain(study))?,
        finish("detection.svg".to_owned(), Shows::Detection, matrix::detection(study))?,
        finish("honest-loss.svg".to_owned(), Shows::HonestLoss, dots::honest_loss(study))?,
        finish("gini.svg".to_owned(), Shows::Gini, dots::gini(study))?,
    ];
    let mut taken = BTreeSet::new();
    for (i, attack) in study.attacks().iter().enumerate() {
        let slug = file_part(attack.name, &mut taken);
        let trust = trajectory::trust(study, attack);
        plots.push(finish(format!("trust-{slug}.svg"), Shows::Trust(i), trust)?);
        let share = trajectory::share(study, attack);
        plots.push(finish(format!("share-{slug}.svg"), Shows::Share(i), share)?);
    }
    Ok(plots)
}

fn finish(file_name: String, shows: Shows, drawn: Result<String, Fault>) -> Result<Plot, ReportError> {
    match drawn {
        Ok(svg) => Ok(Plot { file_name, svg, shows }),
        Err(source) => Err(ReportError::Plot { name: file_name, source }),
    }
}

/// A part of a file name that is safe everywhere, from a name that can be anything; never the same twice.
fn file_part(name: &str, taken: &mut BTreeSet<String>) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = name.chars().take(40).map(kept).collect();
    let slug = match slug.trim_matches('-') {
        "" => "attack",
        trimmed => trimmed,
    };
    let mut unique = slug.to_owned();
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{slug}-{number}");
        number += 1;
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_and_differ() {
        let mut taken = BTreeSet::new();
        let mut part = |name: &str| file_part(name, &mut taken);
        assert_eq!(part("Wash work"), "wash-work");
        assert_eq!(part("../wash work"), "wash-work-2");
        assert_eq!(part("wash-work-2"), "wash-work-2-2");
        assert_eq!(part("<script>"), "script");
        assert_eq!(part("攻击"), "attack");
        assert_eq!(part(""), "attack-2");
        assert_eq!(part(&"x".repeat(500)).len(), 40);
    }
}
