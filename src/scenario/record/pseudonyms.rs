//! Stable pseudonyms for names, ids and texts that identify a node's workloads.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The kubelet's labels, whose values are names that also occur elsewhere.
const LABELS: [(&str, Kind); 4] = [
    ("io.kubernetes.pod.name", Kind::Pod),
    ("io.kubernetes.pod.namespace", Kind::Namespace),
    ("io.kubernetes.pod.uid", Kind::Uid),
    ("io.kubernetes.container.name", Kind::Container),
];
/// Maximum length of a reason that a runtime sets.
const REASON_LENGTH: usize = 64;

/// The kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A sandbox or container.
    Id,
    Pod,
    Namespace,
    Uid,
    Container,
    Image,
    Address,
    /// The value of a label.
    Label,
    /// Free text.
    Message,
    Reason,
}

/// Assigns pseudonyms: a name of a kind always has the same one.
#[derive(Debug)]
pub(super) struct Pseudonyms {
    keep_names: bool,
    given: BTreeMap<(Kind, String), String>,
    counts: BTreeMap<Kind, u32>,
}

// === impl Pseudonyms ===

impl Pseudonyms {
    pub(super) fn new(keep_names: bool) -> Self {
        Self { keep_names, given: BTreeMap::new(), counts: BTreeMap::new() }
    }

    /// The pseudonym of this name; an empty name is kept.
    pub(super) fn of(&mut self, kind: Kind, name: &str) -> String {
        if self.keep_names || name.is_empty() || is_harmless(kind, name) {
            return name.to_owned();
        }
        if let Some(pseudonym) = self.given.get(&(kind, name.to_owned())) {
            return pseudonym.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let pseudonym = pseudonym(kind, name, *count);
        self.given.insert((kind, name.to_owned()), pseudonym.clone());
        pseudonym
    }

    /// The pseudonym of the value of this label.
    pub(super) fn of_label(&mut self, key: &str, value: &str) -> String {
        let kind = LABELS.iter().find(|(label, _)| *label == key).map_or(Kind::Label, |(_, kind)| *kind);
        self.of(kind, value)
    }
}

/// Whether a text does not identify a workload: it is one of the runtime's reasons.
fn is_harmless(kind: Kind, name: &str) -> bool {
    kind == Kind::Reason
        && name.len() <= REASON_LENGTH
        && name.chars().all(|letter| letter.is_ascii_alphabetic())
}

fn pseudonym(kind: Kind, name: &str, n: u32) -> String {
    match kind {
        // As long as a runtime's id, and different in the first few digits, which commands print and accept.
        Kind::Id => format!("{:0<64}", format!("{:06x}", 0x00a0_0000_u32.saturating_add(n))),
        Kind::Uid if name.contains('-') => format!("{n:08x}-0000-4000-8000-000000000000"),
        Kind::Uid => format!("{:0<32}", format!("{n:08x}")),
        Kind::Pod => format!("pod-{n}"),
        Kind::Namespace => format!("namespace-{n}"),
        Kind::Container => format!("container-{n}"),
        Kind::Image => format!("image-{n}"),
        Kind::Label => format!("value-{n}"),
        Kind::Message => format!("message {n}"),
        Kind::Reason => format!("Reason{n}"),
        Kind::Address => match name.parse() {
            Ok(IpAddr::V6(_)) => Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n)).to_string(),
            _ => Ipv4Addr::from(0x0a00_0000 | n & 0x00ff_ffff).to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_pseudonym_everywhere() {
        let mut pseudonyms = Pseudonyms::new(false);
        let pod = pseudonyms.of(Kind::Pod, "payments-0");
        assert_eq!(pod, "pod-1");
        assert_eq!(pseudonyms.of(Kind::Pod, "payments-1"), "pod-2");
        assert_eq!(pseudonyms.of_label("io.kubernetes.pod.name", "payments-0"), pod);
        assert_eq!(pseudonyms.of_label("app", "payments-0"), "value-1");
        assert_eq!(pseudonyms.of(Kind::Pod, ""), "");
    }

    #[test]
    fn pseudonyms_have_the_shape_of_the_original() {
        let mut pseudonyms = Pseudonyms::new(false);
        let id = pseudonyms.of(Kind::Id, &"f".repeat(64));
        assert_eq!((id.len(), &id[..12]), (64, "a00001000000"));
        assert_ne!(pseudonyms.of(Kind::Id, "x")[..12], id[..12]);
        let uid = pseudonyms.of(Kind::Uid, "8c5f6b1e-7f1a-4c9e-b500-b46b3c04f655");
        assert_eq!(uid, "00000001-0000-4000-8000-000000000000");
        assert_eq!(pseudonyms.of(Kind::Uid, &"0".repeat(32)).len(), 32);
        assert_eq!(pseudonyms.of(Kind::Address, "192.168.7.9"), "10.0.0.1");
        assert_eq!(pseudonyms.of(Kind::Address, "fd00::7"), "2001:db8::2");
    }

    #[test]
    fn reasons_of_a_runtime_stay_and_other_text_does_not() {
        let mut pseudonyms = Pseudonyms::new(false);
        assert_eq!(pseudonyms.of(Kind::Reason, "OOMKilled"), "OOMKilled");
        assert_eq!(pseudonyms.of(Kind::Reason, "password=x"), "Reason1");
        assert_eq!(pseudonyms.of(Kind::Message, "OOMKilled"), "message 1");
        assert_eq!(Pseudonyms::new(true).of(Kind::Message, "as it is"), "as it is");
    }
}
