//! Where tokens, claims and keys are read from, and how much of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::output::Screen;

/// The most that is read of standard input or of a file with a key or claims, bytes: eight times the longest token that is accepted, and more than
/// any of the others has.
pub(crate) const MAX_INPUT_BYTES: usize = 64 * 1024;

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// A token, from the command line or else from standard input, without the white space around it.
pub(crate) fn token(argument: Option<&str>, screen: &Screen) -> Result<String, Failure> {
    let octets = match argument.filter(|argument| *argument != STANDARD_INPUT) {
        Some(argument) => return Ok(argument.trim_ascii().to_owned()),
        None => standard_input("the token", MAX_INPUT_BYTES, screen)?,
    };
    let octets = octets
        .ok_or_else(|| Failure::refused("token_too_long", format!("a token of more than {MAX_INPUT_BYTES} bytes")))?;
    // What is no UTF-8 is no token either, and is refused as that.
    Ok(String::from_utf8_lossy(octets.trim_ascii()).into_owned())
}

/// A document, from a file or, if that is called `-`, from standard input.
pub(crate) fn document(path: &Path, what: &str, screen: &Screen) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let is_input = path == Path::new(STANDARD_INPUT);
    let octets =
        if is_input { standard_input(what, MAX_INPUT_BYTES, screen)? } else { file(path, what, MAX_INPUT_BYTES)? };
    octets.ok_or_else(|| Failure::usage(format!("{what} has more than {MAX_INPUT_BYTES} bytes")))
}

/// What is published, from a file or standard input; `None` if there is more of it than a verifier would read.
pub(crate) fn published(path: &Path, most: usize, screen: &Screen) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    if path == Path::new(STANDARD_INPUT) {
        standard_input("the key set", most, screen)
    } else {
        file(path, "the key set", most)
    }
}

/// Text that somebody has written, such as settings, from a file.
pub(crate) fn text(path: &Path, what: &str, most: usize) -> Result<String, Failure> {
    checked_text(path, what, most, |_| Ok(()))
}

/// The same, from a file that is looked at when it is open.
pub(crate) fn checked_text(
    path: &Path,
    what: &str,
    most: usize,
    check: impl FnOnce(&File) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let octets = checked_file(path, what, most, check)?;
    let octets = octets.ok_or_else(|| Failure::usage(format!("{what} has more than {most} bytes")))?;
    String::from_utf8(octets.to_vec()).map_err(|_| Failure::usage(format!("{what} is no text")))
}

/// Whether that is a URL, and no file.
pub(crate) fn url(place: &OsString) -> Option<&str> {
    place.to_str().filter(|place| place.contains("://"))
}

/// A private key, from a file that others than its owner and group have nothing to do with. What is no file (a pipe) has no such others.
pub(crate) fn private_key(path: &Path, screen: &Screen) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if path == Path::new(STANDARD_INPUT) {
        return document(path, "the key", screen);
    }
    // The open file is asked, which nobody can exchange any more.
    let octets = checked_file(path, "the key", MAX_INPUT_BYTES, |opened| {
        #[cfg(unix)]
        if let Ok(metadata) = opened.metadata() {
            use std::os::unix::fs::PermissionsExt as _;
            let (mode, path) = (metadata.permissions().mode(), path.display());
            if metadata.is_file() && mode & 0o007 != 0 {
                let message = format!("{path} has mode {:04o}, by which others may use it: chmod o= it", mode & 0o7777);
                return Err(Failure::unavailable("key_exposed", message));
            }
        }
        #[cfg(not(unix))]
        let _ = opened;
        Ok(())
    })?;
    octets.ok_or_else(|| Failure::usage(format!("the key has more than {MAX_INPUT_BYTES} bytes")))
}

fn standard_input(what: &str, most: usize, screen: &Screen) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        screen.warn(&format!("{what} is read from this terminal: end it with Ctrl-D"));
    }
    bounded(input.lock(), most).map_err(|error| unreadable("standard input", &error))
}

fn file(path: &Path, what: &str, most: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    checked_file(path, what, most, |_| Ok(()))
}

fn checked_file(
    path: &Path,
    what: &str,
    most: usize,
    check: impl FnOnce(&File) -> Result<(), Failure>,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let failed = |error: io::Error| unreadable(&format!("{what} in {}", path.display()), &error);
    let opened = File::open(path).map_err(failed)?;
    check(&opened)?;
    bounded(opened, most).map_err(failed)
}

fn unreadable(what: &str, error: &io::Error) -> Failure {
    Failure::unavailable("cannot_read", format!("cannot read {what}: {}", error.kind()))
}

/// All of it, in memory that is overwritten afterwards and never grows; `None` if that is too much.
fn bounded(source: impl Read, most: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(most + 1));
    source.take(most as u64 + 1).read_to_end(&mut octets)?;
    Ok((octets.len() <= most).then_some(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_read_and_no_more() {
        let read = |length: usize| {
            bounded(io::repeat(b'a').take(length as u64), MAX_INPUT_BYTES).unwrap().map(|octets| octets.len())
        };
        assert_eq!(read(0), Some(0));
        assert_eq!(read(MAX_INPUT_BYTES), Some(MAX_INPUT_BYTES));
        assert_eq!(read(MAX_INPUT_BYTES + 1), None);
        assert!(bounded(io::repeat(b'a'), 10).unwrap().is_none());
    }
}
