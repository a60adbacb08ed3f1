//! A value that can change while plegd runs, such as a key of the configuration.
//!
//! Knows nothing of what it is a value of: who makes one says how it is read and what wakes those who wait for a change.

use std::{fmt, future::pending, sync::Arc};

use tokio::sync::watch;

/// A value as it is at present, or one that never changes. Cheap to clone.
#[derive(Clone)]
pub struct Live<T>(Of<T>);

#[derive(Clone)]
enum Of<T> {
    Fixed(T),
    Read {
        read: Arc<dyn Fn() -> T + Send + Sync>,
        /// Changes whenever the value may have.
        changes: watch::Receiver<()>,
    },
}

// === impl Live ===

impl<T> Live<T> {
    /// What `read` returns. Whenever that may be another value, `changes` changes.
    pub fn new(changes: watch::Receiver<()>, read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Of::Read { read: Arc::new(read), changes })
    }
}

impl<T: Clone> Live<T> {
    /// The value at present.
    pub fn get(&self) -> T {
        match &self.0 {
            Of::Fixed(value) => value.clone(),
            Of::Read { read, .. } => read(),
        }
    }

    /// Waits for the next change that this has not seen; the value may be the same after it. Drop the future to stop waiting.
    pub async fn changed(&mut self) {
        let changed = match &mut self.0 {
            Of::Read { changes, .. } => changes.changed().await.is_ok(),
            Of::Fixed(_) => false,
        };
        // Without a sender the value never changes again.
        if !changed {
            pending().await
        }
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self(Of::Fixed(value))
    }
}

impl<T: Clone + fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.get()).finish()
    }
}
