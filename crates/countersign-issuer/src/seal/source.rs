//! Where a key-encryption key comes from.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{KEK_BYTES, Kek, KekError, random};
use crate::text::ParseError;

/// The most that is read of a source, bytes. A key in hexadecimal digits has 64.
pub const MAX_KEK_SOURCE_BYTES: usize = 1024;

/// How long a command may take unless it [is said](KekSource::within) otherwise: it asks a secrets manager over the
/// network, once.
pub const DEFAULT_COMMAND_TIME: Duration = Duration::from_secs(10);

/// How often is looked whether a command has ended that has said everything.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// Where a key-encryption key comes from: a file, a variable of the environment, or what a command says, as a client of
/// a secrets manager does. The forms are those of [`Kek::parse`].
///
/// ```
/// use countersign_issuer::KekSource;
///
/// let mounted = KekSource::file("/run/secrets/ring.kek");
/// let managed = KekSource::command("vault", ["kv", "get", "-field=kek", "secret/ring"]);
/// let the_same = "command:vault kv get -field=kek secret/ring".parse()?;
/// assert_eq!(managed, the_same);
/// # Ok::<(), countersign_issuer::ParseError>(())
/// ```
///
/// As a text it is `file:PATH`, `env:NAME`, or `command:PROGRAM ARGUMENTS`, which is split at spaces.
#[derive(Clone, PartialEq, Eq)]
pub struct KekSource(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    File { path: PathBuf, group_may_read: bool },
    Environment(OsString),
    Command { program: OsString, arguments: Vec<OsString>, within: Duration },
}

impl KekSource {
    /// A regular file that nobody else may read (0600 or less), of this process's user or root. A symbolic link is
    /// followed, as secrets that are mounted into containers have them.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File { path: path.into(), group_may_read: false })
    }

    /// A variable of the environment. Whoever may look at the process, and whatever it starts, can read it: a file is
    /// better.
    #[must_use]
    pub fn environment(name: impl Into<OsString>) -> Self {
        Self(Source::Environment(name.into()))
    }

    /// The output of a program, which is started as it is, without a shell. It must end well, within
    /// [`DEFAULT_COMMAND_TIME`]. Its standard error is this process's.
    #[must_use]
    pub fn command<A: Into<OsString>>(program: impl Into<OsString>, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self(Source::Command { program: program.into(), arguments, within: DEFAULT_COMMAND_TIME })
    }

    /// Lets the file's group read it (0640), as secrets that are mounted for a group have it. Nothing changes for other
    /// sources.
    #[must_use]
    pub fn group_may_read(mut self) -> Self {
        if let Source::File { group_may_read, .. } = &mut self.0 {
            *group_may_read = true;
        }
        self
    }

    /// How long the command may take. Nothing changes for other sources.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        if let Source::Command { within, .. } = &mut self.0 {
            *within = time;
        }
        self
    }

    /// Gets the key. Blocks, as long as a command may take.
    ///
    /// # Errors
    /// [`KekError::Unavailable`] if there is nothing to be had, [`KekError::Unfit`] if others may read the file,
    /// [`KekError::Malformed`] if it is no key.
    pub fn load(&self) -> Result<Kek, KekError> {
        match &self.0 {
            Source::File { path, group_may_read } => Kek::parse(&read_file(path, *group_may_read)?),
            Source::Environment(name) => {
                let value = std::env::var_os(name).ok_or_else(|| {
                    KekError::Unavailable(format!("the variable {} is not set", name.display()).into())
                })?;
                Kek::parse(&Zeroizing::new(value.into_encoded_bytes()))
            }
            Source::Command { program, arguments, within } => Kek::parse(&run(program, arguments, *within)?),
        }
    }
}

impl FromStr for KekSource {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const FORM: ParseError = ParseError("a source is file:PATH, env:NAME or command:PROGRAM ARGUMENTS");
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::file(path)),
            Some(("env", name)) if !name.is_empty() => Ok(Self::environment(name)),
            Some(("command", command)) => {
                let mut words = command.split_ascii_whitespace();
                Ok(Self::command(words.next().ok_or(FORM)?, words))
            }
            _ => Err(FORM),
        }
    }
}

impl Kek {
    /// Makes a new key and writes it to a new file, which only this process's user may read (0600), in base64. Blocks.
    ///
    /// Beside the ring that it seals it protects from nothing but a look at a backup of the ring alone.
    ///
    /// # Errors
    /// [`KekError::Unavailable`] if the file is there already or cannot be written.
    pub fn create_file(path: impl AsRef<Path>) -> Result<Self, KekError> {
        let path = path.as_ref();
        let material = Zeroizing::new(random::<KEK_BYTES>().map_err(|_| KekError::Crypto)?);
        let mut text = Zeroizing::new([0; 2 * KEK_BYTES]);
        let length = STANDARD.encode_slice(*material, &mut *text).map_err(|_| KekError::Crypto)?;
        text[length] = b'\n';
        // Whole or not at all: half of it would be in the way of the next one.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = tempfile::Builder::new().prefix(".new-").tempfile_in(parent).and_then(|mut file| {
            file.write_all(&text[..=length])?;
            file.as_file().sync_all()?;
            file.persist_noclobber(path)?;
            sync_directory(parent)
        });
        written.map_err(|error| unavailable("write", path, &error))?;
        Self::parse(&text[..=length])
    }
}

/// Or the machine may forget the file when it dies, and with it everything that was sealed under the key. A directory
/// that may not be read is left to its file system.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        #[cfg(unix)]
        Ok(directory) => directory.sync_all(),
        _ => Ok(()),
    }
}

/// Shows where, and of a command not even the arguments.
impl fmt::Debug for KekSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File { path, .. } => f.debug_tuple("File").field(path).finish(),
            Source::Environment(name) => f.debug_tuple("Environment").field(name).finish(),
            Source::Command { program, .. } => f.debug_tuple("Command").field(program).finish(),
        }
    }
}

fn read_file(path: &Path, group_may_read: bool) -> Result<Zeroizing<Vec<u8>>, KekError> {
    let mut options = File::options();
    options.read(true);
    // There may be a FIFO, and nobody who writes to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(|error| unavailable("open", path, &error))?;
    let metadata = file.metadata().map_err(|error| unavailable("look at", path, &error))?;
    if !metadata.is_file() {
        return Err(KekError::Unfit(format!("{} is not a regular file", path.display()).into()));
    }
    #[cfg(unix)]
    check_permissions(&metadata, path, group_may_read)?;
    #[cfg(not(unix))]
    let _ = group_may_read;
    let read = read_bounded(file).map_err(|error| unavailable("read", path, &error))?;
    read.ok_or_else(|| too_large(&path.display().to_string()))
}

#[cfg(unix)]
fn check_permissions(metadata: &fs::Metadata, path: &Path, group_may_read: bool) -> Result<(), KekError> {
    use std::os::unix::fs::MetadataExt;
    let (mode, owner, user) = (metadata.mode() & 0o7777, metadata.uid(), rustix::process::geteuid().as_raw());
    let path = path.display();
    let text = if owner != user && owner != 0 {
        format!("{path} belongs to the user {owner}, and this process runs as {user}: chown it")
    } else if mode & if group_may_read { 0o037 } else { 0o077 } != 0 {
        format!(
            "{path} has mode {mode:04o}, by which others may use it: chmod 600 it, and \
             make another key if somebody may have read it"
        )
    } else {
        return Ok(());
    };
    Err(KekError::Unfit(text.into()))
}

/// All of it, in a vector that never grows; `None` if that is too much.
fn read_bounded(mut source: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_KEK_SOURCE_BYTES + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match source.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if length > MAX_KEK_SOURCE_BYTES {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

fn run(program: &OsString, arguments: &[OsString], within: Duration) -> Result<Zeroizing<Vec<u8>>, KekError> {
    let failed = |text: String| KekError::Unavailable(format!("the command {} {text}", program.display()).into());
    // `None`: it has all the time there is.
    let until = Instant::now().checked_add(within);
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    // Whatever it starts ends with it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|error| failed(format!("does not start: {}", error.kind())))?;
    let output = child.stdout.take().ok_or(KekError::Crypto);
    let ended = output.and_then(|output| {
        let (done, said) = mpsc::sync_channel(1);
        let reading = thread::Builder::new().name("countersign-kek".into());
        let reading = reading.spawn(move || drop(done.send(read_bounded(output))));
        reading.map_err(|error| failed(format!("cannot be listened to: {}", error.kind())))?;
        let said = said.recv_timeout(within).map_err(|_| failed(format!("took longer than {within:?}")))?;
        let said = said.map_err(|error| failed(format!("cannot be listened to: {}", error.kind())))?;
        let said = said.ok_or_else(|| too_large(&format!("what the command {} says", program.display())))?;
        match wait(&mut child, until).map_err(|error| failed(format!("cannot be waited for: {}", error.kind())))? {
            Some(status) if status.success() => Ok(said),
            Some(status) => Err(failed(format!("failed: {status}"))),
            None => Err(failed(format!("took longer than {within:?}"))),
        }
    });
    if ended.is_err() {
        end(&mut child);
    }
    ended
}

/// `None` if it goes on.
fn wait(child: &mut Child, until: Option<Instant>) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(None);
        }
        thread::sleep(EXIT_POLL);
    }
}

fn end(child: &mut Child) {
    // Whether it has ended by itself or not; then there may be nothing to end any more.
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn unavailable(doing: &str, path: &Path, error: &io::Error) -> KekError {
    KekError::Unavailable(format!("cannot {doing} {}: {}", path.display(), error.kind()).into())
}

fn too_large(what: &str) -> KekError {
    KekError::Unfit(format!("{what} has more than {MAX_KEK_SOURCE_BYTES} bytes").into())
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
