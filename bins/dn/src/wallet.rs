//! `dn wallet`: keys in encrypted keystore files (Web3 secret storage, version 3).
//!
//! A secret never appears in a flag, in an environment variable, in the output or in a log.

mod sign;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dn_core::hexadecimal::to_hex;
use dn_core::keystore::{Kdf, Keystore};
use dn_core::mnemonic::{DerivationPath, Mnemonic};
use dn_core::{Address, SecretKey};
use rand_core::OsRng;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::home::{self, Config};
use crate::out::{self, Align};
use crate::password::PasswordArgs;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a new key and keep it in an encrypted file.
    New(NewArgs),
    /// Take in an existing key: a mnemonic phrase or 64 hexadecimal digits, from a file or standard input.
    Import(ImportArgs),
    /// Print the address of a key; no password is needed.
    Address(SelectArgs),
    /// List the keys in the keystore directory.
    List(ListArgs),
    /// Print the public key and the address of a key, for others to check signatures with.
    ExportPublic(ExportArgs),
    /// Let another key spend from your channels, within limits: prints the signed grant, for `dn tx grant-session`.
    SignGrant(Box<sign::GrantArgs>),
    /// Accept the result of a job that you pay for: prints your signature, for the worker's `dn tx claim-job --acceptance`.
    SignAcceptance(Box<sign::AcceptanceArgs>),
}

/// Where keystore files are.
#[derive(Debug, clap::Args)]
struct DirArgs {
    /// Directory of keystore files.
    #[arg(long, env = "DN_KEYSTORE_DIR", value_name = "DIR")]
    keystore_dir: Option<PathBuf>,
}

impl DirArgs {
    fn dir(&self, config: &Config) -> PathBuf {
        self.keystore_dir.clone().unwrap_or_else(|| config.keystore_dir())
    }
}

/// How a new keystore is written.
#[derive(Debug, clap::Args)]
struct StoreArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Name of the file, without `.json`; without it the address.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    /// How the password is stretched.
    #[arg(long, value_enum, default_value_t = KdfArg::Scrypt)]
    kdf: KdfArg,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Key derivations that keystore files may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KdfArg {
    /// Needs memory as well as time to attack.
    Scrypt,
    /// Needs time to attack; for programs that know nothing else.
    Pbkdf2,
}

/// `dn wallet new`.
#[derive(Debug, clap::Args)]
pub(crate) struct NewArgs {
    #[command(flatten)]
    store: StoreArgs,
}

/// `dn wallet import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// File with the secret; `-` is standard input.
    #[arg(long, default_value = "-", value_name = "FILE")]
    from: PathBuf,
    /// Which key of a mnemonic phrase: the last number of m/44'/60'/0'/0/N.
    #[arg(long, default_value_t = 0, value_name = "N")]
    index: u32,
    /// File whose first line is the mnemonic's extra passphrase (BIP-39), if it has one.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

/// `dn wallet address`.
#[derive(Debug, clap::Args)]
pub(crate) struct SelectArgs {
    /// Name in the keystore directory, address, or path of a keystore file.
    key: String,
    #[command(flatten)]
    dir: DirArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// `dn wallet list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    dir: DirArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// `dn wallet export-public`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Where the key of a transaction comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// The signing key: name in the keystore directory, address, or path of a keystore file.
    #[arg(long, env = "DN_KEY", value_name = "KEY")]
    key: String,
    #[command(flatten)]
    keystore: KeystoreArgs,
}

impl KeyArgs {
    /// Opens the keystore.
    pub(crate) fn open(&self, config: &Config) -> Result<SecretKey, CliError> {
        self.keystore.open(&self.key, config)
    }
}

/// Where keys are, and what opens them.
#[derive(Debug, clap::Args)]
pub(crate) struct KeystoreArgs {
    #[command(flatten)]
    dir: DirArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

impl KeystoreArgs {
    /// Opens a key.
    pub(crate) fn open(&self, key: &str, config: &Config) -> Result<SecretKey, CliError> {
        decrypt(&find(key, &self.dir.dir(config))?, &self.password)
    }
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
    path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the command.
pub(crate) fn run(command: Command, config: &Config) -> Result<ExitCode, CliError> {
    match command {
        Command::New(args) => store(&SecretKey::random(&mut OsRng), &args.store, config),
        Command::Import(args) => store(&import(&args)?, &args.store, config),
        Command::Address(args) => address(&args, config),
        Command::List(args) => list(&args, config),
        Command::ExportPublic(args) => export(&args, config),
        Command::SignGrant(args) => sign::grant(*args, config),
        Command::SignAcceptance(args) => sign::acceptance(&args, config),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn store(key: &SecretKey, args: &StoreArgs, config: &Config) -> Result<(), CliError> {
    let address = key.address();
    let name = args.name.clone().unwrap_or_else(|| address.to_string().to_lowercase());
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
        return Err(CliError::argument("--name", format!("`{name}` is not a plain file name")));
    }
    let path = args.dir.dir(config).join(format!("{name}.json"));
    if path.exists() {
        let reason =
            format!("{} exists already; choose another name, keys are never overwritten", path.display());
        return Err(CliError::argument("--name", reason));
    }
    let password = Zeroizing::new(args.password.new_one()?);
    let waiting = out::spinner("encrypting");
    let kdf = match args.kdf {
        KdfArg::Scrypt => Kdf::scrypt_default(),
        KdfArg::Pbkdf2 => Kdf::pbkdf2_default(),
    };
    let keystore = Keystore::encrypt(key, password.as_bytes(), kdf, &mut OsRng)
        .map_err(|error| CliError::Other(format!("cannot encrypt the key: {error}")))?;
    home::create_private(&path, keystore.to_json().as_bytes())?;
    waiting.finish_and_clear();
    if args.json {
        out::json(&Entry { name, address: Some(address), path, error: None });
    } else {
        out::line(address);
        out::note(format_args!("kept in {}", path.display()));
    }
    Ok(())
}

/// Reads a secret: hexadecimal digits, or else the words of a mnemonic phrase.
fn import(args: &ImportArgs) -> Result<SecretKey, CliError> {
    let mut text = Zeroizing::new(String::new());
    if args.from == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(CliError::file("read", "standard input"))?;
    } else {
        *text = fs::read_to_string(&args.from).map_err(CliError::file("read", &args.from))?;
    }
    let secret = text.trim();
    if secret.contains(char::is_whitespace) {
        let passphrase = match &args.passphrase_file {
            Some(path) => Zeroizing::new(fs::read_to_string(path).map_err(CliError::file("read", path))?),
            None => Zeroizing::default(),
        };
        return from_mnemonic(secret, passphrase.lines().next().unwrap_or_default(), args.index);
    }
    from_hex(secret)
}

fn from_mnemonic(phrase: &str, passphrase: &str, index: u32) -> Result<SecretKey, CliError> {
    let refused = |error: String| CliError::argument("the mnemonic phrase", error);
    let mnemonic = Mnemonic::parse(phrase).map_err(|error| refused(error.to_string()))?;
    mnemonic.derive(passphrase, DerivationPath::ethereum(index)).map_err(|error| refused(error.to_string()))
}

fn from_hex(secret: &str) -> Result<SecretKey, CliError> {
    let refused = |reason: &str| CliError::argument("the secret key", reason);
    // The text is a secret: no message may repeat any of it.
    let digits = secret.strip_prefix("0x").unwrap_or(secret);
    let shape = "64 hexadecimal digits or the words of a mnemonic phrase expected";
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refused(shape));
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| refused(shape))?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| refused(shape))?;
    }
    SecretKey::from_bytes(&bytes).map_err(|error| refused(&error.to_string()))
}

fn read_keystore(path: &Path) -> Result<Keystore, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::file("read", path))?;
    Keystore::from_json(&text).map_err(|error| CliError::Other(format!("{}: {error}", path.display())))
}

/// Opens a keystore file with the password that the arguments give.
pub(crate) fn decrypt(path: &Path, password: &PasswordArgs) -> Result<SecretKey, CliError> {
    let keystore = read_keystore(path)?;
    let password = Zeroizing::new(password.existing()?);
    keystore
        .decrypt(password.as_bytes())
        .map_err(|error| CliError::Other(format!("{}: {error}", path.display())))
}

fn entries(dir: &Path) -> Result<Vec<Entry>, CliError> {
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CliError::File { action: "read", path: dir.to_owned(), source }),
    };
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json") && path.is_file());
    paths.sort();
    Ok(paths.into_iter().map(entry).collect())
}

fn entry(path: PathBuf) -> Entry {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (address, error) = match read_keystore(&path) {
        Ok(keystore) => (keystore.address(), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Entry { name, address, path, error }
}

/// The keystore file that a name, an address or a path means.
fn find(key: &str, dir: &Path) -> Result<PathBuf, CliError> {
    let path = Path::new(key);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let address = key.parse::<Address>().ok();
    let found = entries(dir)?
        .into_iter()
        .find(|entry| entry.name == key || (address.is_some() && entry.address == address));
    found.map(|entry| entry.path).ok_or_else(|| {
        let reason = format!(
            "`{key}` is neither a keystore file nor a name or address in {}; `dn wallet list` shows what is there",
            dir.display()
        );
        CliError::argument("KEY", reason)
    })
}

fn address(args: &SelectArgs, config: &Config) -> Result<(), CliError> {
    let path = find(&args.key, &args.dir.dir(config))?;
    let entry = entry(path);
    if let Some(error) = entry.error {
        return Err(CliError::Other(error));
    }
    let Some(address) = entry.address else {
        let path = entry.path.display();
        return Err(CliError::Other(format!(
            "{path} does not tell its address; `dn wallet export-public` finds it"
        )));
    };
    if args.json {
        out::json(&entry);
    } else {
        out::line(address);
    }
    Ok(())
}

fn list(args: &ListArgs, config: &Config) -> Result<(), CliError> {
    let dir = args.dir.dir(config);
    let entries = entries(&dir)?;
    if args.json {
        out::json(&serde_json::json!({ "keystore_dir": dir, "keys": entries }));
        return Ok(());
    }
    if entries.is_empty() {
        out::note(format_args!("no keys in {}; `dn wallet new` makes one", dir.display()));
        return Ok(());
    }
    let mut table = out::Table::new(&[("name", Align::Left), ("address", Align::Left)]);
    for entry in entries {
        let address = entry.address.map(|address| address.to_string());
        table.row([entry.name, address.or(entry.error).unwrap_or_else(|| "not told by the file".into())]);
    }
    out::text(table.render());
    Ok(())
}

fn export(args: &ExportArgs, config: &Config) -> Result<(), CliError> {
    let path = find(&args.select.key, &args.select.dir.dir(config))?;
    let key = decrypt(&path, &args.password)?;
    let public_key = to_hex(&key.public().to_compressed());
    if args.select.json {
        out::json(&serde_json::json!({ "address": key.address(), "public_key": public_key }));
    } else {
        out::line(format_args!("address     {}\npublic key  {public_key}", key.address()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_secret_is_never_repeated() {
        let secret = "0xzz11223344556677";
        let error = from_hex(secret).unwrap_err().to_string();
        assert!(!error.contains("1122"), "{error}");
        assert!(from_hex(&"0".repeat(64)).is_err());
        let one = format!("{:064x}", 1);
        let expected = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf";
        assert_eq!(from_hex(&one).unwrap().address().to_string(), expected);
        assert_eq!(from_hex(&format!("0x{one}")).unwrap().address().to_string(), expected);
    }

    #[test]
    fn the_published_phrase_gives_the_published_address() {
        let phrase = "test test test test test test test test test test test junk";
        let address = from_mnemonic(phrase, "", 0).unwrap().address().to_string();
        assert_eq!(address, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        let wrong = from_mnemonic(&phrase.replace("junk", "test"), "", 0).unwrap_err().to_string();
        assert!(wrong.contains("mnemonic"), "{wrong}");
    }
}
