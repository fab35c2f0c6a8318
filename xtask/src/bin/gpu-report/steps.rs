//! Steps of the report: what they print, whether they must succeed, and the file, which is written anew after each.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Most of an output's end that goes into the report.
const MOST_BYTES: usize = 20_000;
/// The longest that a step may take: benches of a large model on the CPU take minutes.
const LIMIT: Duration = Duration::from_secs(30 * 60);
const POLL: Duration = Duration::from_millis(50);
/// The exit status of a report in which nothing failed and nothing is about a card.
const NO_CARD: u8 = 3;

/// Whether a step that fails makes the report one of failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Needed,
    /// A machine without this device has none.
    Wanted,
}

impl Need {
    pub(crate) const fn when(needed: bool) -> Self {
        if needed { Self::Needed } else { Self::Wanted }
    }
}

/// A report as far as it is written.
pub(crate) struct Report {
    text: String,
    place: PathBuf,
    limit: Duration,
    failed: bool,
}

impl Report {
    /// An empty report, whose file can be written.
    pub(crate) fn begin(place: PathBuf, head: &str) -> Result<Self, String> {
        let report = Self { text: head.to_owned(), place, limit: LIMIT, failed: false };
        report.write().map(|()| report)
    }

    fn write(&self) -> Result<(), String> {
        fs::write(&self.place, &self.text).map_err(|error| format!("write {}: {error}", self.place.display()))
    }

    /// Adds what is no step's output.
    pub(crate) fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.kept();
    }

    pub(crate) fn fail(&mut self, why: &str) {
        self.failed = true;
        self.say(&format!("\n**FAILED: {why}**\n"));
    }

    /// A disk that fills up does not end the run: the last write says so.
    fn kept(&self) {
        let _ = self.write();
    }

    /// Runs a step; what it printed on standard output, if it ended well.
    pub(crate) fn step(&mut self, title: &str, command: &mut Command, need: Need) -> Option<Vec<u8>> {
        println!("gpu: {title}");
        let _ = write!(self.text, "\n## {title}\n\n`{command:?}`\n\n");
        self.kept();
        let ran = self.run(command);
        let (verdict, out, both) = match ran {
            Ok((true, out, err)) => ("ended well".to_owned(), Some(out.clone()), [out, err].concat()),
            Ok((false, out, err)) => ("FAILED".to_owned(), None, [out, err].concat()),
            Err(error) => (format!("NOT RUN: {error}"), None, Vec::new()),
        };
        self.failed |= need == Need::Needed && out.is_none();
        let end = String::from_utf8_lossy(&both[both.len().saturating_sub(MOST_BYTES)..]).into_owned();
        let _ = write!(self.text, "{verdict}\n\n```\n{}\n```\n", end.trim().replace("```", "'''"));
        self.kept();
        out
    }

    /// Whether a command ended well, and all that it printed. One that takes too long is killed.
    fn run(&self, command: &mut Command) -> Result<(bool, Vec<u8>, Vec<u8>), String> {
        let part = |name: &str| self.place.with_extension(name);
        let file = |name: &str| File::create(part(name)).map_err(|error| error.to_string());
        command.stdin(Stdio::null()).stdout(file("out")?).stderr(file("err")?);
        let ended = command.spawn().map_err(|error| error.to_string()).and_then(|child| self.wait(child));
        let printed = |name: &str| {
            let bytes = fs::read(part(name)).unwrap_or_default();
            let _ = fs::remove_file(part(name));
            bytes
        };
        let (out, mut err) = (printed("out"), printed("err"));
        let ended = ended?;
        if ended.is_none() {
            err.extend(format!("\nkilled after {} s\n", self.limit.as_secs()).bytes());
        }
        Ok((ended == Some(true), out, err))
    }

    fn wait(&self, mut child: Child) -> Result<Option<bool>, String> {
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return Ok(Some(status.success()));
            }
            if began.elapsed() > self.limit {
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// What a step prints, which must be JSON.
    pub(crate) fn json(&mut self, title: &str, command: &mut Command, need: Need) -> Option<Value> {
        let output = self.step(title, command, need)?;
        let value = serde_json::from_slice(&output).ok();
        if value.is_none() && need == Need::Needed {
            self.fail("no JSON where some was expected");
        }
        value
    }

    /// Says at the end what the exit status says.
    pub(crate) fn finish(mut self, card: bool) -> ExitCode {
        let (said, status) = match (self.failed, card) {
            (true, _) => ("FAILED: something that must succeed did not.", ExitCode::FAILURE),
            (false, true) => ("Everything that must succeed did.", ExitCode::SUCCESS),
            (false, false) => {
                ("NO CARD: nothing failed, and nothing here is about a GPU.", ExitCode::from(NO_CARD))
            }
        };
        let _ = write!(self.text, "\n## Result\n\n{said}\n");
        if let Err(reason) = self.write() {
            eprintln!("{reason}\n{}", self.text);
            return ExitCode::FAILURE;
        }
        println!("{said}\n{}", self.place.display());
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// Runs a report of steps in a folder of its own; its text and whether it failed.
    fn report(steps: impl FnOnce(&mut Report)) -> (String, bool) {
        let dir = std::env::temp_dir().join(format!(
            "gpu-report-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(&dir).unwrap();
        let place = dir.join("gpu-report.md");
        let mut report = Report::begin(place.clone(), "# head\n").unwrap();
        report.limit = Duration::from_millis(500);
        steps(&mut report);
        let (failed, text) = (report.failed, fs::read_to_string(&place).unwrap());
        assert_eq!(text, report.text, "written after each step");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
        fs::remove_dir_all(&dir).unwrap();
        (text, failed)
    }

    #[test]
    fn what_must_succeed_fails_the_report() {
        let (text, failed) = report(|r| {
            assert_eq!(r.step("good", &mut shell("echo out; echo err >&2"), Need::Needed).unwrap(), b"out\n");
            assert!(r.step("bad", &mut shell("echo why; exit 1"), Need::Wanted).is_none());
            assert!(r.step("absent", &mut Command::new("/no/such/program"), Need::Wanted).is_none());
            assert!(r.json("no JSON", &mut shell("echo text"), Need::Wanted).is_none());
        });
        assert!(!failed);
        for part in ["ended well\n\n```\nout\nerr\n```", "FAILED\n\n```\nwhy", "NOT RUN: "] {
            assert!(text.contains(part), "{part}: {text}");
        }
        for (script, json) in [("exit 1", false), ("exit 1", true), ("echo text", true)] {
            let (_, failed) = report(|r| match json {
                false => drop(r.step("s", &mut shell(script), Need::Needed)),
                true => drop(r.json("s", &mut shell(script), Need::Needed)),
            });
            assert!(failed, "{script}");
        }
        assert!(report(|r| drop(r.step("s", &mut Command::new("/no/such/program"), Need::Needed))).1);
        assert!(!report(|r| assert_eq!(r.json("s", &mut shell("echo 7"), Need::Needed).unwrap(), 7)).1);
    }

    #[test]
    fn a_step_that_hangs_is_killed_and_the_rest_goes_on() {
        let (text, failed) = report(|r| {
            assert!(r.step("hangs", &mut shell("echo begun; exec sleep 60"), Need::Needed).is_none());
            assert!(r.step("next", &mut shell("true"), Need::Needed).is_some());
        });
        assert!(
            failed && text.contains("begun") && text.contains("killed after") && text.contains("## next"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_first() {
        let begun = Report::begin(PathBuf::from("/no/such/folder/report.md"), "");
        assert!(begun.err().unwrap().contains("/no/such/folder"));
    }
}
