//! prost's codec, decoding from one slice.
//!
//! tonic passes its decoder the read buffer, which prost reads byte by byte through a trait that updates that buffer.
//! The buffer holds the whole message; taking it out as a slice copies nothing, and decoding then takes a third less
//! time. Lists, one per second while plegd polls, are almost all that plegd decodes.

use std::marker::PhantomData;

use prost::{Message, bytes::Buf as _};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub(super) struct SliceCodec<T, U>(PhantomData<(T, U)>);

/// Decodes `U`.
#[derive(Debug)]
pub(super) struct SliceDecoder<U>(PhantomData<U>);

// === impl SliceCodec ===

impl<T, U> Default for SliceCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SliceCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = SliceDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        SliceDecoder(PhantomData)
    }
}

// === impl SliceDecoder ===

impl<U: Message + Default> Decoder for SliceDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = buf.copy_to_bytes(buf.remaining());
        // The same status as tonic's codec; `CriError::of` recognizes it by its text.
        U::decode(&*message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
