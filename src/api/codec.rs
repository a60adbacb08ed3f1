//! prost's codec for the server, with small buffers.
//!
//! tonic's codec allocates 8 KiB for each answer, which a subscriber holds as long as it watches. It also collects 32 KiB of messages
//! before it passes them on. An event takes a few hundred bytes and is sent alone. The data collected for a lagging subscriber stays in
//! memory, once for each subscriber.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Initial size of an answer's buffer, in bytes.
const BUFFER: usize = 1024;
/// Bytes collected before they are passed on: one HTTP/2 frame.
const YIELD_THRESHOLD: usize = 16 * 1024;

/// A codec that encodes `T` and decodes `U`.
#[derive(Debug)]
pub(crate) struct SmallCodec<T, U>(PhantomData<(T, U)>);

// === impl SmallCodec ===

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }
}
