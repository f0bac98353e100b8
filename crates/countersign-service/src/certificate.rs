//! What is read of a certificate: names that a policy can have, its thumbprint, and from when until when it is good. Never
//! of a header: what a proxy says of certificates (`X-Forwarded-Client-Cert`) nobody here looks at.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::UnixTime;
use x509_parser::der_parser::asn1_rs::{Any, Class, Oid, Tag, ToDer as _};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Name;

use crate::sha256::sha256;

/// Alternative names of one certificate, at most: each is looked for among those of all clients.
const MAX_NAMES: usize = 64;

/// Octets of a SHA-256.
pub(crate) const THUMBPRINT_BYTES: usize = 32;

/// What a certificate can be known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum CertificateName {
    /// A `dNSName` in small letters, whole: a wildcard is a name like any other, which no policy has.
    Dns(Box<str>),
    /// A `uniformResourceIdentifier`, octet by octet.
    Uri(Box<str>),
    /// The subject as RFC 4514 writes it.
    Subject(Box<str>),
    /// Itself, whoever has signed it.
    Thumbprint([u8; THUMBPRINT_BYTES]),
}

/// A certificate whose key the peer has proved to have.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    thumbprint: [u8; THUMBPRINT_BYTES],
    names: Vec<CertificateName>,
    not_before: i64,
    not_after: i64,
    is_vouched_for: bool,
}

/// A certificate that cannot be read, or has more names than is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it cannot be read as one of X.509 with at most 64 names")
    }
}

impl std::error::Error for Unreadable {}

impl ClientCertificate {
    pub(crate) fn read(der: &[u8], is_vouched_for: bool) -> Result<Self, Unreadable> {
        let (rest, certificate) = parse_x509_certificate(der).map_err(|_| Unreadable)?;
        let alternatives = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
        let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        if !rest.is_empty() || alternatives.len() > MAX_NAMES {
            return Err(Unreadable);
        }
        let mut names = Vec::new();
        for name in alternatives {
            match name {
                GeneralName::DNSName(name) => names.push(CertificateName::Dns(name.to_ascii_lowercase().into())),
                GeneralName::URI(uri) => names.push(CertificateName::Uri((*uri).into())),
                GeneralName::Invalid(..) => return Err(Unreadable),
                _ => {}
            }
        }
        names.extend(distinguished(certificate.subject())?.map(CertificateName::Subject));
        let validity = certificate.validity();
        Ok(Self {
            thumbprint: sha256(der),
            names,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            is_vouched_for,
        })
    }

    /// `x5t#S256` (RFC 8705 §3.1).
    #[must_use]
    pub fn x5t_s256(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.thumbprint)
    }

    /// Both ends are in it (RFC 5280 §4.1.2.5).
    #[must_use]
    pub fn is_valid_at(&self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now.as_secs())
    }

    /// Whether one of the [authorities](crate::TlsPem::client_authorities) vouches for it; if not, its names mean nothing.
    #[must_use]
    pub fn is_vouched_for(&self) -> bool {
        self.is_vouched_for
    }

    /// Everything that it can be known by: its names only if somebody vouches for them.
    pub(crate) fn known_by(&self) -> impl Iterator<Item = CertificateName> {
        let names = self.names.iter().filter(|_| self.is_vouched_for).cloned();
        std::iter::once(CertificateName::Thumbprint(self.thumbprint)).chain(names)
    }
}

/// By its thumbprint.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificate").field(&self.x5t_s256()).finish()
    }
}

/// The types that have names in RFC 4514 §3, by their numbers in `2.5.4`.
const TYPES: [(&[u64], &str); 9] = [
    (&[2, 5, 4, 3], "CN"),
    (&[2, 5, 4, 7], "L"),
    (&[2, 5, 4, 8], "ST"),
    (&[2, 5, 4, 10], "O"),
    (&[2, 5, 4, 11], "OU"),
    (&[2, 5, 4, 6], "C"),
    (&[2, 5, 4, 9], "STREET"),
    (&[0, 9, 2342, 19200300, 100, 1, 25], "DC"),
    (&[0, 9, 2342, 19200300, 100, 1, 1], "UID"),
];

/// RFC 4514 §2, the last part first; `None` for the empty name. Nothing in a value can be taken for the end of it.
fn distinguished(name: &X509Name<'_>) -> Result<Option<Box<str>>, Unreadable> {
    let mut parts = Vec::new();
    for part in name.iter() {
        let mut attributes = Vec::new();
        for attribute in part.iter() {
            attributes.push(format!("{}={}", kind(attribute.attr_type()), value(attribute.attr_value())?));
        }
        // DER has them in the order of their encodings.
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Ok((!parts.is_empty()).then(|| parts.join(",").into()))
}

fn kind(kind: &Oid<'_>) -> String {
    let known = kind.iter().and_then(|numbers| {
        let numbers: Vec<u64> = numbers.collect();
        TYPES.iter().find(|(known, _)| *known == numbers).map(|(_, name)| (*name).to_owned())
    });
    known.unwrap_or_else(|| kind.to_id_string())
}

/// RFC 4514 §2.4. What is no text of a usual kind is written as its encoding.
fn value(value: &Any<'_>) -> Result<String, Unreadable> {
    let is_text = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String].contains(&value.tag());
    let text = std::str::from_utf8(value.data).ok().filter(|_| is_text && value.class() == Class::Universal);
    let Some(text) = text else {
        let der = value.to_der_vec().map_err(|_| Unreadable)?;
        return Ok(der.iter().fold("#".to_owned(), |text, octet| format!("{text}{octet:02x}")));
    };
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        match character {
            '\0' => escaped.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', character]),
            ' ' if index == 0 || index == last => escaped.push_str("\\ "),
            '#' if index == 0 => escaped.push_str("\\#"),
            _ => escaped.push(character),
        }
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn read(change: impl FnOnce(&mut CertificateParams)) -> Result<ClientCertificate, Unreadable> {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        ClientCertificate::read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der(), true)
    }

    #[test]
    fn a_subject_is_written_so_that_no_value_can_be_taken_for_two() {
        let subject = |parts: &[(DnType, DnValue)]| {
            let certificate = read(|params| {
                for (kind, value) in parts {
                    params.distinguished_name.push(kind.clone(), value.clone());
                }
            });
            match certificate.unwrap().names.pop() {
                Some(CertificateName::Subject(subject)) => subject.into_string(),
                other => format!("{other:?}"),
            }
        };
        let text = |text: &str| DnValue::Utf8String(text.to_owned());
        let (name, organization) = (DnType::CommonName, DnType::OrganizationName);
        assert_eq!(subject(&[]), "None");
        assert_eq!(subject(&[(organization.clone(), text("Acme")), (name.clone(), text("web"))]), "CN=web,O=Acme");
        assert_eq!(subject(&[(name.clone(), text("web,O=Acme"))]), "CN=web\\,O=Acme");
        for (value, written) in [
            (" a b ", "\\ a b\\ "),
            ("#a#", "\\#a#"),
            ("a+b\"c\\d<e>f;g", "a\\+b\\\"c\\\\d\\<e\\>f\\;g"),
            ("a\0b", "a\\00b"),
            ("J\u{f6}rg", "J\u{f6}rg"),
            (" ", "\\ "),
            ("", ""),
        ] {
            assert_eq!(subject(&[(name.clone(), text(value))]), format!("CN={written}"));
        }
        // Another kind of text is another value, and another type a number.
        let teletex = DnValue::TeletexString("web".try_into().unwrap());
        assert_eq!(subject(&[(name, teletex)]), "CN=#1403776562");
        let other = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        assert_eq!(subject(&[(other, text("a@b"))]), "1.2.840.113549.1.9.1=a@b");
    }

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last() {
        let certificate = read(|params| {
            params.not_before = rcgen::date_time_ymd(2027, 1, 1);
            params.not_after = rcgen::date_time_ymd(2027, 1, 2);
        });
        let certificate = certificate.unwrap();
        let first = 1_798_761_600;
        for (second, is_valid) in [(-1, false), (0, true), (86_400, true), (86_401, false)] {
            assert_eq!(certificate.is_valid_at(UnixTime::from_secs(first + second)), is_valid, "{second}");
        }
        assert_eq!(format!("{certificate:?}"), format!("ClientCertificate({:?})", certificate.x5t_s256()));
    }

    #[test]
    fn what_cannot_be_looked_through_is_no_certificate() {
        let names = |number: usize| {
            let name = |index: usize| SanType::DnsName(format!("n{index}").try_into().unwrap());
            read(|params| params.subject_alt_names = (0..number).map(name).collect())
        };
        assert!(names(MAX_NAMES).is_ok());
        assert_eq!(names(MAX_NAMES + 1), Err(Unreadable));
        let alternative = |content: &[u8]| {
            let content = content.to_vec();
            let extension = || CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
            read(|params| params.custom_extensions.push(extension()))
        };
        // A name of a host in letters, and one in octets that are none.
        assert!(alternative(&[0x30, 3, 0x82, 1, b'a']).is_ok());
        assert_eq!(alternative(&[0x30, 3, 0x82, 1, 0xFF]), Err(Unreadable));
        assert_eq!(alternative(&[0x30, 9]), Err(Unreadable));
        let der =
            CertificateParams::new([]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        assert!(ClientCertificate::read(&der, false).is_ok());
        for cut in 0..der.len() {
            assert_eq!(ClientCertificate::read(&der[..cut], false), Err(Unreadable));
        }
        assert_eq!(ClientCertificate::read(&[&der[..], &[0]].concat(), false), Err(Unreadable));
    }
}
