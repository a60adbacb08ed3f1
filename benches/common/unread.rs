//! A codec that leaves answers encoded, for callers that count them or decode them later.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Encodes requests of this type, and leaves answers as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unread<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Codec for Unread<T> {
    type Encode = T;
    type Decode = Bytes;
    type Encoder = ProstEncoder<T>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, ()>::default().encoder()
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<T: Send> Decoder for Unread<T> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}
