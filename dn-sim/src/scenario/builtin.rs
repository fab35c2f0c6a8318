//! Scenarios that come with the crate.

/// The attack suite.
pub const SUITE: &str = include_str!("../../scenarios/suite.toml");

/// A first look: small, and seconds long.
pub const FIRST: &str = include_str!("../../scenarios/first.toml");

/// All of them: name and text.
pub const BUILTIN: [(&str, &str); 4] = [
    ("suite", SUITE),
    ("first", FIRST),
    ("tuning", include_str!("../../scenarios/tuning.toml")),
    ("young-network", include_str!("../../scenarios/young-network.toml")),
];

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::*;

    #[test]
    fn all_are_allowed_and_have_their_names() {
        for (name, text) in BUILTIN {
            let scenario = Scenario::from_toml(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(scenario.name, name);
        }
    }
}
