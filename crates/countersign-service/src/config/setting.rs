//! What can be set, what each is for, and how it is written in the environment.

use toml::Value;

use super::{ConfigError, invalid};

/// A setting.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is if nobody says.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    /// In the environment with commas between them.
    Texts,
    Number,
    /// `true` or `false`.
    Flag,
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Setting {
    Setting { name, default, about, kind }
}

/// All of them, in the order in which they are shown; `CONFIGURATION.md` has them from here. Times are whole seconds.
pub const SETTINGS: &[Setting] = &[
    setting(
        "issuer",
        Kind::Text,
        "https:// and `listen`, or http:// without TLS",
        "the `iss` of all tokens: an https URL; http on loopback only",
    ),
    setting(
        "base_url",
        Kind::Text,
        "scheme, host and port of `issuer`",
        "what the URLs of this service begin with, as its clients see them and sign requests for them",
    ),
    setting("listen", Kind::Text, "127.0.0.1:8080", "the address and port that is listened on"),
    setting(
        "tls_certificate_file",
        Kind::Text,
        "none",
        "the service's certificate and those between it and its authority (PEM); read again when it changes",
    ),
    setting("tls_key_file", Kind::Text, "none", "the private key of the certificate (PEM), which others may not read"),
    setting(
        "client_ca_file",
        Kind::Text,
        "none",
        "who vouches for the certificates of clients (PEM); read again when it changes",
    ),
    setting(
        "plain_http",
        Kind::Flag,
        "false",
        "listen without TLS on an address that is not loopback: behind a proxy that has TLS",
    ),
    setting("directory", Kind::Text, "countersign-data", "where the ring, its key-encryption key and the policy are"),
    setting("store", Kind::Text, "ring in `directory`", "where the ring is instead: s3://BUCKET/PREFIX, as AWS_… say"),
    setting(
        "kek",
        Kind::Texts,
        "file: and kek in `directory`",
        "what private keys are sealed under: file:PATH, env:NAME or command:PROGRAM ARGUMENTS; the first seals, the others open",
    ),
    setting("kek_group_may_read", Kind::Flag, "false", "whether the group of a file of `kek` may read it (0640)"),
    setting(
        "policy_file",
        Kind::Text,
        "policy.toml in `directory`",
        "who may have what signed; read again when it changes",
    ),
    setting(
        "secret_key_file",
        Kind::Text,
        "none",
        "32 octets or more, which client secrets are hashed under; printable text without the white space around it, or all octets",
    ),
    setting("slots", Kind::Texts, "ES256", "what is signed with: ES256, RS256:4096, or name=RS256:4096"),
    setting("max_lifetime", Kind::Number, "3600", "the longest life of a token"),
    setting("rotation", Kind::Number, "86400", "how long a key signs"),
    setting("overlap", Kind::Number, "86400", "how long a key stays published after that"),
    setting(
        "max_age",
        Kind::Number,
        "300",
        "how long the key set may be kept by those who fetch it; countersign's verifiers keep it for 60 at least",
    ),
    setting(
        "intermediary",
        Kind::Number,
        "300",
        "how much longer caches between them and here may keep it; 0 if there are none",
    ),
    setting(
        "clock_error",
        Kind::Number,
        "30",
        "how far any two clocks may be apart, here and where tokens are verified",
    ),
    setting(
        "failed_authentications",
        Kind::Number,
        "60",
        "how many times a minute an address is told that its credentials are not good; 0: no limit, as for a proxy's",
    ),
    setting(
        "audit_file",
        Kind::Text,
        "none",
        "where each decision is written down, in lines that follow from each other",
    ),
    setting(
        "audit_when_full",
        Kind::Text,
        "block",
        "what becomes of a token that cannot be written down: block (503), or drop (it is signed, and counted)",
    ),
    setting(
        "audit_subjects",
        Kind::Text,
        "plain",
        "how `sub` is written down: plain, or hashed (under audit-subjects.key in `directory`)",
    ),
    setting(
        "metrics_listen",
        Kind::Text,
        "`listen`, if that and `issuer` are on loopback, else off",
        "where /metrics is served: an address and port of its own, or off",
    ),
    setting("revocations_file", Kind::Text, "none", "where revoked keys are told to verifiers that follow that file"),
    setting("connections", Kind::Number, "1024", "connections at once"),
    setting("handshake_time", Kind::Number, "10", "how long a TLS handshake may take"),
    setting("head_time", Kind::Number, "10", "how long the head of a request may take"),
    setting(
        "ping_time",
        Kind::Number,
        "10",
        "how long a client of HTTP/2 may take to say that it is still there, which it is asked twice as seldom",
    ),
    setting("connection_time", Kind::Number, "300", "for how long a connection takes requests"),
    setting(
        "ending_time",
        Kind::Number,
        "10",
        "how long requests under way are waited for at the end, and then as long again the ring, whose keys are not to be lost half made",
    ),
];

impl Setting {
    /// What it is in the file.
    #[must_use]
    pub const fn form(&self) -> &'static str {
        match self.kind {
            Kind::Text => "text",
            Kind::Texts => "list of texts",
            Kind::Number => "whole number",
            Kind::Flag => "`true` or `false`",
        }
    }

    pub(super) fn value(&self, text: &str) -> Result<Value, ConfigError> {
        Ok(match self.kind {
            Kind::Text => Value::String(text.to_owned()),
            Kind::Texts => Value::Array(text.split(',').map(|one| Value::String(one.trim().to_owned())).collect()),
            Kind::Number => {
                let number = text.parse().map_err(|_| invalid(format!("`{}` is no whole number", self.name)))?;
                Value::Integer(number)
            }
            Kind::Flag => {
                let flag = text.parse().map_err(|_| invalid(format!("`{}` is neither true nor false", self.name)))?;
                Value::Boolean(flag)
            }
        })
    }
}
