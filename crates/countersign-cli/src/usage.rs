//! What is said of arguments that do not fit. Any of them may be a token or a secret that was put in the wrong place, so they are not
//! repeated; names of options are, as far as they look like any.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::Exit;

/// The longest name of an option that is repeated to whoever mistyped it. Ours are shorter.
const MAX_OPTION_BYTES: usize = 24;

/// What others typed, and may be shown in an error, in clap's words.
const TYPED: [ContextKind; 3] = [ContextKind::InvalidArg, ContextKind::InvalidValue, ContextKind::InvalidSubcommand];

/// Help on standard output, complaints on standard error.
pub(crate) fn say(mut error: clap::Error) -> Exit {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Good };
    if exit == Exit::Usage {
        withhold(&mut error);
    }
    // Whoever has stopped listening need not hear it.
    let _ = error.print();
    exit
}

fn withhold(error: &mut clap::Error) {
    let is_ours = |kind| match (error.get(kind), error.kind(), kind) {
        // The name of the argument whose value it was; of an unknown one it is what was typed.
        (Some(ContextValue::String(typed)), ErrorKind::UnknownArgument, ContextKind::InvalidArg) => is_option(typed),
        (Some(_), _, ContextKind::InvalidArg) | (None, ..) => true,
        (Some(ContextValue::String(typed)), ..) => typed.is_empty(),
        _ => false,
    };
    let withheld: Vec<_> = TYPED.into_iter().filter(|kind| !is_ours(*kind)).collect();
    for kind in &withheld {
        error.insert(*kind, ContextValue::String("…".to_owned()));
    }
    if !withheld.is_empty() {
        // These are made of what was typed.
        error.insert(ContextKind::Suggested, ContextValue::None);
    }
}

fn is_option(typed: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    typed.len() <= MAX_OPTION_BYTES && typed.starts_with('-') && typed.bytes().all(fits)
}
