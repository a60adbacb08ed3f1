//! prost's codec for the server, with small buffers.
//!
//! tonic's own allots 8 KiB to each answer, which a subscriber holds for as long as it watches, and gathers 32 KiB of messages
//! before it passes them on. An event takes some hundred bytes and comes alone; and what is gathered for a subscriber who is
//! behind waits in memory, once for each.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What an answer's buffer begins with, in bytes.
const BUFFER: usize = 1024;
/// What is gathered before it is passed on, in bytes: a frame of HTTP/2.
const GATHERED: usize = 16 * 1024;

/// Encodes `T`, decodes `U`.
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
        ProstEncoder::new(BufferSettings::new(BUFFER, GATHERED))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, GATHERED))
    }
}
