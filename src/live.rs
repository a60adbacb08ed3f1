//! A value that can change while plegd runs, such as a key of the configuration.
//!
//! The creator defines how the value is read and what signals a change.

use std::{fmt, future::pending, sync::Arc};

use tokio::sync::watch;

/// A value that can change, or a fixed one. Cheap to clone.
#[derive(Clone)]
pub struct Live<T>(Kind<T>);

#[derive(Clone)]
enum Kind<T> {
    Fixed(T),
    Read {
        read: Arc<dyn Fn() -> T + Send + Sync>,
        /// Notified whenever the value may have changed.
        changes: watch::Receiver<()>,
    },
}

// === impl Live ===

impl<T> Live<T> {
    /// A value that `read` returns. `changes` is notified whenever it may have changed.
    pub fn new(changes: watch::Receiver<()>, read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Kind::Read { read: Arc::new(read), changes })
    }
}

impl<T: Clone> Live<T> {
    /// The current value.
    pub fn get(&self) -> T {
        match &self.0 {
            Kind::Fixed(value) => value.clone(),
            Kind::Read { read, .. } => read(),
        }
    }

    /// Waits for the next change that this handle has not observed; the value may be the same. Drop the future to
    /// stop waiting.
    pub async fn changed(&mut self) {
        let changed = match &mut self.0 {
            Kind::Read { changes, .. } => changes.changed().await.is_ok(),
            Kind::Fixed(_) => false,
        };
        // Without a sender the value never changes again.
        if !changed {
            pending().await
        }
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self(Kind::Fixed(value))
    }
}

impl<T: Clone + fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.get()).finish()
    }
}
