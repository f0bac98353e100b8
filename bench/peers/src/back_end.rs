//! jsonwebtoken 10 and later have one crypto back end in a process. Here there are contenders with either: so both are
//! compiled in, and a provider hands over to the one that a contender has when it is alone.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_bench::Failure;
use http::StatusCode;

use crate::call::{Contend, Token};

/// Whose cryptography a contender uses. With other contenders' than jsonwebtoken's, only a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BackEnd {
    AwsLc,
    RustCrypto,
    Ring,
    None,
}

impl BackEnd {
    pub fn name(self) -> &'static str {
        match self {
            Self::AwsLc => "aws-lc-rs",
            Self::RustCrypto => "RustCrypto",
            Self::Ring => "ring",
            Self::None => "",
        }
    }

    /// For all contenders, until another is.
    pub fn switch_on(self) {
        RUST_CRYPTO.store(self == Self::RustCrypto, Ordering::Relaxed);
    }
}

/// Read with each verification, of a cache line that nobody writes to while a round lasts.
static RUST_CRYPTO: AtomicBool = AtomicBool::new(false);

fn is_rust_crypto() -> bool {
    RUST_CRYPTO.load(Ordering::Relaxed)
}

/// A contender, and the back end that is switched on before each of its rounds.
pub struct With {
    pub back_end: BackEnd,
    pub contender: Box<dyn Contend>,
}

impl Contend for With {
    fn once(&mut self, token: &Token) -> StatusCode {
        self.contender.once(token)
    }

    fn before_round(&mut self) {
        self.back_end.switch_on();
        self.contender.before_round();
    }

    fn has_waited(&self) -> bool {
        self.contender.has_waited()
    }
}

macro_rules! dispatching {
    ($version:ident, $utilities:ident) => {{
        use $version::crypto::{CryptoProvider, aws_lc, rust_crypto};

        static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
            signer_factory: aws_lc::DEFAULT_PROVIDER.signer_factory,
            verifier_factory: |algorithm, key| {
                let chosen = if is_rust_crypto() { &rust_crypto::DEFAULT_PROVIDER } else { &aws_lc::DEFAULT_PROVIDER };
                (chosen.verifier_factory)(algorithm, key)
            },
            $utilities: aws_lc::DEFAULT_PROVIDER.$utilities.clone(),
        });
        PROVIDER.install_default().map_err(|_| "jsonwebtoken has a provider already")?;
    }};
}

/// Once, before anything is decoded.
pub fn install() -> Result<(), Failure> {
    dispatching!(jsonwebtoken_10, jwk_utils);
    dispatching!(jsonwebtoken_11, key_utils);
    dispatching!(jsonwebtoken_12, key_utils);
    Ok(())
}
