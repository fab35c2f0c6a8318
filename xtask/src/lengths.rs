//! Lengths of the Rust files under version control.

use std::process::Command;

use crate::Report;

const REPORT_ABOVE: usize = 400;
const FAIL_ABOVE: usize = 800;

pub(crate) fn check() -> Report {
    let mut report = Report::default();
    let listed = Command::new("git").args(["ls-files", "*.rs"]).output();
    let files = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => {
            report.notes.push("not a git checkout: lengths not checked".into());
            return report;
        }
    };
    let (mut count, mut long) = (0, Vec::new());
    for file in files.lines() {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let lines = text.lines().count();
        count += 1;
        if lines > FAIL_ABOVE {
            report.problems.push(format!("{file} has {lines} lines; at most {FAIL_ABOVE}"));
        } else if lines > REPORT_ABOVE {
            long.push((lines, file.to_owned()));
        }
    }
    long.sort_unstable_by(|a, b| b.cmp(a));
    report.notes.push(format!("{count} files, {} above {REPORT_ABOVE} lines", long.len()));
    report.notes.extend(long.into_iter().map(|(lines, file)| format!("{lines} {file}")));
    report
}
