//! Detects whether a runtime sends events, without harm to it. Prints the setting that enables them.

use super::Report;
use crate::{
    cri::{
        Client, CriError, Listing,
        quirks::{Quirk, Quirks},
    },
    evented::UNCONFIRMED_AFTER,
};

/// Whether the runtime has events.
pub(super) enum Events {
    Offered,
    NotTried(&'static str),
    /// They are enabled according to a harmless check. The field is the reason why the stream was not opened.
    On(&'static str),
    Unimplemented,
    /// They are disabled; the field is the evidence.
    Off(&'static str),
    /// They may be disabled, and the stream was not opened. The field is the reason.
    MaybeOff(&'static str),
    Failed(CriError),
}

/// Opens the stream and waits a short time for an error: before the first event, a runtime sends no other reply. If opening the stream
/// can do harm, other evidence is used.
pub(super) async fn detect(client: &Client, quirks: &Quirks, listing: &Listing) -> Events {
    let harm = if quirks.has(Quirk::SharedChannel) {
        Some("a second subscriber would take events from the first")
    } else if quirks.has(Quirk::DisconnectMayCrashRuntime) {
        Some("this version can crash when a subscriber leaves")
    } else {
        None
    };
    match harm {
        Some(why) if quirks.has(Quirk::EventsOffByDefault) => by_status(client, listing, why).await,
        Some(why) => Events::NotTried(why),
        None => by_stream(client).await,
    }
}

async fn by_stream(client: &Client) -> Events {
    let opened = async {
        let mut stream = client.events().await?;
        stream.next_exists().await
    };
    match tokio::time::timeout(UNCONFIRMED_AFTER, opened).await {
        Err(_) | Ok(Ok(true)) => Events::Offered,
        Ok(Ok(false)) => Events::Off("the runtime ends the stream at once"),
        Ok(Err(CriError::Unimplemented { .. })) => Events::Unimplemented,
        Ok(Err(error)) => Events::Failed(error),
    }
}

/// CRI-O sets a timestamp in the status of a sandbox if, and only if, it sends events.
async fn by_status(client: &Client, listing: &Listing, why: &'static str) -> Events {
    for sandbox in &listing.sandboxes {
        match client.stamps_status(&sandbox.id.as_str().into()).await {
            Ok(Some(true)) => return Events::On(why),
            Ok(Some(false)) => return Events::Off("the statuses of sandboxes have no timestamp"),
            // A sandbox that is removed in the meantime is no evidence.
            Ok(None) => {}
            Err(error) => return Events::Failed(error),
        }
    }
    Events::MaybeOff(why)
}

// === impl Events ===

impl Events {
    pub(super) fn expected(&self) -> bool {
        matches!(self, Events::Offered | Events::NotTried(_) | Events::On(_))
    }

    pub(super) fn report(&self, report: &mut Report) {
        let text = match self {
            Events::Offered => "offered: GetContainerEvents was accepted".into(),
            Events::NotTried(why) => format!("expected for this version; not tested, because {why}"),
            Events::On(why) => {
                format!("on: the statuses of sandboxes have a timestamp; not tested, because {why}")
            }
            Events::Unimplemented => "none: GetContainerEvents is not implemented".into(),
            Events::Off(evidence) => format!("off: {evidence}"),
            Events::MaybeOff(why) => {
                format!("unknown until a pod exists; disabled by default; not tested, because {why}")
            }
            Events::Failed(error) => format!("failed: {error}"),
        };
        report.line("events", text);
    }

    /// Adds advice for enabling events, if the operator can do that.
    pub(super) fn advise(&self, report: &mut Report) {
        match self {
            Events::Off(_) => report.line("advice", "enable events in CRI-O: write these lines".into()),
            Events::MaybeOff(_) => {
                report
                    .line("advice", "enable events in CRI-O, if they are disabled: write these lines".into());
            }
            _ => return,
        }
        report.line("", "  [crio.runtime]".into());
        report.line("", "  enable_pod_events = true".into());
        report.line("", "to /etc/crio/crio.conf.d/10-plegd.conf, then: systemctl restart crio".into());
    }
}
