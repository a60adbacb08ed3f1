//! What a verified certificate calls its holder.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// `commonName`, 2.5.4.3, in DER.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;

/// URI names, then DNS names of the subject's alternative names; where there are neither, the subject's common name, as
/// certificates of Kubernetes have it. Not both: an authority that may vouch for some DNS names only is held to them by
/// its certificate's constraints, which say nothing about common names.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let mut names: Vec<String> = certificate.valid_uri_names().map(str::to_owned).collect();
    names.extend(certificate.valid_dns_names().map(str::to_owned));
    if names.is_empty() {
        names.extend(common_name(certificate.subject()).map(str::to_owned));
    }
    names
}

/// The common name in a subject: a sequence, without its own head, of sets of pairs of type and value. `None` if there is
/// none or more than one, or if it is neither UTF-8 nor printable: there is no telling then what its authority has vouched
/// for.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while !subject.is_empty() {
        let (mut set, rest) = element(subject, SET)?;
        while !set.is_empty() {
            let (pair, others) = element(set, SEQUENCE)?;
            let (kind, value) = element(pair, OBJECT_IDENTIFIER)?;
            if kind == COMMON_NAME {
                let text = element(value, UTF8_STRING).or_else(|| element(value, PRINTABLE_STRING))?;
                let name =
                    std::str::from_utf8(text.0).ok().filter(|name| !name.chars().any(char::is_control))?;
                if name.is_empty() || found.replace(name).is_some() {
                    return None;
                }
            }
            set = others;
        }
        subject = rest;
    }
    found
}

/// The contents of the element of this kind that DER begins with, and what follows it. Names have no need of more than
/// 65535 bytes.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (length, der) = match first {
        0..=0x7f => (usize::from(first), der),
        0x81 => der.split_first().map(|(&length, der)| (usize::from(length), der))?,
        0x82 => der
            .split_first_chunk::<2>()
            .map(|(length, der)| (usize::from(u16::from_be_bytes(*length)), der))?,
        _ => return None,
    };
    (found == tag).then(|| der.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str], san: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = san;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn uris_come_first_then_dns_and_a_common_name_only_alone() {
        let uri = SanType::URI("spiffe://example.org/agent".try_into().unwrap());
        let dns = SanType::DnsName("agent.example.org".try_into().unwrap());
        let both = certificate(&["anna"], vec![dns.clone(), uri]);
        assert_eq!(of(&both), ["spiffe://example.org/agent", "agent.example.org"]);
        assert_eq!(of(&certificate(&["anna"], vec![dns])), ["agent.example.org"]);
        assert_eq!(of(&certificate(&["system:node:a"], vec![])), ["system:node:a"]);
        assert_eq!(of(&certificate(&["käthe"], vec![])), ["käthe"]);
        assert!(of(&certificate(&[], vec![])).is_empty());
        let long = "x".repeat(300);
        assert_eq!(of(&certificate(&[&long], vec![])), [long]);
    }

    #[test]
    fn what_is_ambiguous_or_broken_is_no_name() {
        let name = |text: &[u8]| {
            let mut pair = vec![OBJECT_IDENTIFIER, 3, 0x55, 4, 3, UTF8_STRING, text.len() as u8];
            pair.extend(text);
            let mut set = vec![SET, pair.len() as u8 + 2, SEQUENCE, pair.len() as u8];
            set.extend(pair);
            set
        };
        assert_eq!(common_name(&name(b"anna")), Some("anna"));
        assert_eq!(common_name(&[name(b"anna"), name(b"bo")].concat()), None);
        assert_eq!(common_name(&name(b"an\0na")), None);
        assert_eq!(common_name(&name(b"\xff")), None);
        assert_eq!(common_name(&name(b"")), None);
        let whole = name(b"anna");
        for end in 0..whole.len() {
            assert_eq!(common_name(&whole[..end]), None, "{end}");
        }
        for broken in 0..whole.len() - 4 {
            let mut bytes = whole.clone();
            bytes[broken] ^= 0xff;
            assert_eq!(common_name(&bytes), None, "{broken}");
        }
        assert!(of(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }
}
