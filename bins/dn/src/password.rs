//! Passwords: from a terminal or a file, never from a flag or a variable, where other programs could read them.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// Where the password of a keystore comes from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PasswordArgs {
    /// File whose first line is the keystore's password; without it you are asked on the terminal.
    #[arg(long, env = "DN_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password of an existing keystore.
    pub(crate) fn existing(&self) -> Result<String, CliError> {
        match &self.password_file {
            Some(path) => from_file(path),
            None => ask("Password: "),
        }
    }

    /// The password for a new keystore: asked twice, not empty.
    pub(crate) fn new_one(&self) -> Result<String, CliError> {
        let password = match &self.password_file {
            Some(path) => from_file(path)?,
            None => {
                let password = ask("New password: ")?;
                if ask("Again: ")? != password {
                    return Err(CliError::Other("the two passwords differ; nothing was written".into()));
                }
                password
            }
        };
        if password.is_empty() {
            return Err(CliError::NoPassword { reason: "an empty password protects nothing" });
        }
        Ok(password)
    }
}

fn from_file(path: &Path) -> Result<String, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::file("read", path))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn ask(prompt: &str) -> Result<String, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::NoPassword { reason: "standard input is not a terminal" });
    }
    rpassword::prompt_password(prompt).map_err(CliError::file("read from", "the terminal"))
}
