//! What a model is called on the hub.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// A repository on the hub, a revision of it, and perhaps one of its files: `org/name[@revision][:file]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    /// `org/name`.
    pub repo: String,
    /// A branch, tag or commit; `main` by default.
    pub revision: String,
    /// The file, where the repository has several models.
    pub file: Option<String>,
}

impl FromStr for HubModel {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::Name { found: text.to_owned() };
        let (rest, file) = match text.split_once(':') {
            Some((rest, file)) => (rest, Some(file)),
            None => (text, None),
        };
        let (repo, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let (org, name) = repo.split_once('/').ok_or_else(wrong)?;
        let revision_fits = revision.split('/').all(is_plain);
        if !is_plain(org) || !is_plain(name) || !revision_fits || !file.is_none_or(is_path) {
            return Err(wrong());
        }
        let (repo, revision) = (repo.to_owned(), revision.to_owned());
        Ok(Self { repo, revision, file: file.map(str::to_owned) })
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)?;
        match &self.file {
            Some(file) => write!(f, ":{file}"),
            None => Ok(()),
        }
    }
}

/// A name that is one part of a path, and nothing else in an address either.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=');
    (1..=128).contains(&name.len()) && name.chars().all(fits) && !name.chars().all(|c| c == '.')
}

/// A path inside a repository.
pub(super) fn is_path(path: &str) -> bool {
    path.split('/').count() <= 8 && path.split('/').all(is_plain)
}
