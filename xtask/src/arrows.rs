//! Which package may depend on which.

use serde_json::Value;

use crate::Report;

/// Each library and the workspace packages that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("dn-core", &[]),
    ("dn-trust", &["dn-core"]),
    ("dn-powr", &["dn-core", "dn-trust"]),
    ("dn-sim", &["dn-core", "dn-trust", "dn-powr"]),
    ("dn-compute", &["dn-core"]),
    ("dn-ledger", &["dn-core", "dn-trust", "dn-powr"]),
    ("dn-sdk", &["dn-core", "dn-trust", "dn-powr", "dn-compute", "dn-ledger"]),
];

/// Crates whose code replicas execute, and what must never be among their non-optional dependencies.
const PURE: &[&str] = &["dn-core", "dn-trust", "dn-powr", "dn-ledger"];
const IMPURE: &[&str] =
    &["tokio", "reqwest", "axum", "redb", "rayon", "tracing", "chrono", "rand", "hashbrown"];

pub(crate) fn check(metadata: &Value) -> Report {
    let mut report = Report::default();
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    for (name, allowed) in ARROWS {
        let Some(package) = packages.iter().find(|p| p["name"] == *name) else {
            report.problems.push(format!("package {name} is missing"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&empty) {
            let target = dependency["name"].as_str().unwrap_or_default();
            let normal = dependency["kind"].is_null();
            let ours = target.starts_with("dn-") || target == "dn";
            if ours && normal && !allowed.contains(&target) {
                report.problems.push(format!("{name} must not depend on {target}"));
            }
            let optional = dependency["optional"] == true;
            if PURE.contains(name) && normal && !optional && IMPURE.contains(&target) {
                report.problems.push(format!("{name} is pure and must not depend on {target}"));
            }
        }
    }
    report
}
