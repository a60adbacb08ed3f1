//! The names in a verified certificate.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The URI names, then the DNS names, of the subject's alternative names. The common name is not used. Name constraints of an authority
/// do not apply to it, and a common name that looks like a URI would be taken for one.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let uris = certificate.valid_uri_names();
    uris.chain(certificate.valid_dns_names()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: &str, san: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = san;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn uris_come_first_then_dns_and_a_common_name_never() {
        let name = "spiffe://example.org/agent";
        let uri = SanType::URI(name.try_into().unwrap());
        let dns = SanType::DnsName("agent.example.org".try_into().unwrap());
        let both = certificate("anna", vec![dns.clone(), uri]);
        assert_eq!(of(&both), [name, "agent.example.org"]);
        assert_eq!(of(&certificate(name, vec![dns])), ["agent.example.org"]);
        assert!(of(&certificate(name, vec![])).is_empty());
        assert!(of(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }
}
