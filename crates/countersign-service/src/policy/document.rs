//! The document as it is written, before anybody has asked whether it makes sense.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::value::Datetime;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: i64,
    #[serde(default)]
    pub(super) revision: String,
    #[serde(default)]
    pub(super) allow_client_secret_basic: bool,
    #[serde(default)]
    pub(super) workload_issuers: BTreeMap<String, WorkloadIssuerEntry>,
    #[serde(default)]
    pub(super) profiles: BTreeMap<String, ProfileEntry>,
    #[serde(default)]
    pub(super) clients: BTreeMap<String, ClientEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileEntry {
    pub(super) slots: Vec<String>,
    pub(super) typ: Option<String>,
    pub(super) lifetime: u32,
    pub(super) max_lifetime: Option<u32>,
    #[serde(default)]
    pub(super) on_exceed: OnExceed,
    pub(super) max_token_bytes: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnExceed {
    #[default]
    Refuse,
    Clamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientEntry {
    pub(super) valid_from: Option<Datetime>,
    pub(super) valid_until: Option<Datetime>,
    pub(super) jwks: Option<String>,
    pub(super) jwks_uri: Option<String>,
    #[serde(default)]
    pub(super) workloads: Vec<WorkloadEntry>,
    #[serde(default)]
    pub(super) certificates: Vec<CertificateEntry>,
    #[serde(default)]
    pub(super) secrets: Vec<String>,
    pub(super) rate: Option<RateEntry>,
    #[serde(default)]
    pub(super) admin: Vec<String>,
    #[serde(default)]
    pub(super) grants: BTreeMap<String, GrantEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantEntry {
    pub(super) valid_from: Option<Datetime>,
    pub(super) valid_until: Option<Datetime>,
    pub(super) profiles: Vec<String>,
    pub(super) subjects: SubjectEntry,
    pub(super) audiences: NamesEntry,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) max_lifetime: Option<u32>,
    #[serde(default)]
    pub(super) max_nbf_delay: u32,
    #[serde(default)]
    pub(super) binding: super::confirmation::Binding,
    pub(super) rate: Option<RateEntry>,
    pub(super) algorithms: Option<Vec<String>>,
    pub(super) rsa_bits: Option<Vec<u32>>,
    #[serde(default)]
    pub(super) claims: BTreeMap<String, ClaimEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectEntry {
    #[serde(rename = "self", default)]
    pub(super) itself: bool,
    #[serde(default)]
    pub(super) exact: Vec<String>,
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamesEntry {
    #[serde(default)]
    pub(super) exact: Vec<String>,
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimEntry {
    #[serde(rename = "type")]
    pub(super) kind: super::ClaimKind,
    pub(super) values: Option<Vec<ScalarEntry>>,
    pub(super) max_bytes: Option<u32>,
    #[serde(default)]
    pub(super) required: bool,
}

#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub(super) enum ScalarEntry {
    Integer(i64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadIssuerEntry {
    pub(super) jwks: Option<String>,
    pub(super) jwks_uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadEntry {
    pub(super) issuer: String,
    pub(super) claims: BTreeMap<String, ScalarEntry>,
}

/// One of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateEntry {
    pub(super) san_dns: Option<String>,
    pub(super) san_uri: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateEntry {
    pub(super) per_second: u32,
    pub(super) burst: u32,
}
