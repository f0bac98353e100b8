//! PyJWT, joserfc and jwcrypto, in both directions.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::Result;
use crate::differences::compare;
use crate::minted::{Farewell, Minted};
use crate::ours;
use crate::program::Program;
use crate::tally::Tally;

/// What the libraries of `requirements.txt` do not know, in the order in which `mint.py` prints them.
const LIBRARIES: [(&str, &[&str]); 3] = [
    ("PyJWT", &["Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]),
    ("joserfc", &["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]),
    ("jwcrypto", &[]),
];

pub(crate) async fn run(python: &Python, tally: &mut Tally) -> Result<()> {
    let mut mint = python.start("mint.py")?;
    let mut judge = python.start("verify.py")?;
    let mut pending = Vec::new();
    for (library, lacks) in LIBRARIES {
        let minted: Minted = mint.line().await?;
        tally.expect(&format!("it is {library} that minted"), minted.library == library);
        pending.push(minted.judged_here(|algorithm| lacks.contains(&algorithm), tally).await?);
        compare(&minted, &mut judge, tally).await?;
    }
    for pending in pending {
        pending.finish(tally).await?;
    }
    let farewell: Farewell = mint.farewell().await?;
    tally.expect("no token made anybody fetch the attacker's key set", farewell.attacker_fetches == 0);

    for (library, lacks) in LIBRARIES {
        ours::judged_by(library, &mut judge, |algorithm| lacks.contains(&algorithm), tally).await?;
    }
    judge.finish().await
}

/// The Python of the virtual environment that `tests/interop/run` has made.
pub(crate) struct Python {
    directory: PathBuf,
}

impl Python {
    pub(crate) fn find(directory: &Path) -> Self {
        Self { directory: directory.into() }
    }

    pub(crate) fn start(&self, script: &str) -> Result<Program> {
        let mut command = Command::new(self.directory.join(".venv/bin/python"));
        command.arg(script).current_dir(&self.directory).env("PYTHONDONTWRITEBYTECODE", "1");
        Program::start(script, command)
    }
}
