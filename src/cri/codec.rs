//! prost's codec, but decoding from one slice.
//!
//! tonic hands its decoder the read buffer, which prost reads byte by byte through a trait that has to keep that buffer's
//! books. The message is there as a whole; taken out as a slice, which copies nothing, it takes a third less to decode.
//! Lists are nearly all that plegd decodes, every second while it polls.

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
        // As tonic's own codec answers; `CriError::of` knows it by its text.
        U::decode(&*message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
