//! Licences of everything that is linked.

use serde_json::Value;

use crate::Report;

/// Licences that need no more than a notice.
const ACCEPTED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
    "MIT-0",
    "CDLA-Permissive-2.0",
    "MPL-2.0",
];

pub(crate) fn check(metadata: &Value) -> Report {
    let mut report = Report::default();
    let empty = Vec::new();
    for package in metadata["packages"].as_array().unwrap_or(&empty) {
        let name = package["name"].as_str().unwrap_or_default();
        match package["license"].as_str() {
            None => report.problems.push(format!("{name} states no licence")),
            Some(text) if !acceptable(text) => report.problems.push(format!("{name} is under {text}")),
            Some(_) => {}
        }
    }
    report
}

/// `AND` needs every side, `OR` (or the old `/`) one; brackets only group alternatives in the expressions met so far.
fn acceptable(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    flat.split(" AND ").all(|side| side.split(" OR ").any(|one| ACCEPTED.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn expressions() {
        assert!(acceptable("MIT OR Apache-2.0"));
        assert!(acceptable("MIT/Apache-2.0"));
        assert!(acceptable("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(acceptable("GPL-3.0 OR MIT"));
        assert!(!acceptable("GPL-3.0"));
        assert!(!acceptable("MIT AND GPL-3.0"));
    }
}
