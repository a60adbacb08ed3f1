//! The codec of the simulated server: prost's, except that one marker string is sent as bytes that are not UTF-8.
//!
//! Go runtimes up to cri-api 0.33 encode with gogo-proto, which does not validate strings; prost rejects such a
//! message as a whole. A Rust `String` cannot hold those bytes, so the marker is replaced after encoding.

use std::marker::PhantomData;

use prost::{Message, bytes::BufMut as _};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

/// A string field with exactly this value is sent as bytes that no decoder accepts.
pub const NOT_UTF_8: &str = "\u{1}\u{2}not utf-8\u{2}\u{1}";

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct SimCodec<T, U>(PhantomData<(T, U)>);

/// Encodes `T` and corrupts the marked strings.
#[derive(Debug)]
pub struct SimEncoder<T>(PhantomData<T>);

// === impl SimCodec ===

impl<T, U> Default for SimCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SimCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SimEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        SimEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::default())
    }
}

// === impl SimEncoder ===

impl<T: Message> Encoder for SimEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let mut bytes = item.encode_to_vec();
        corrupt(&mut bytes);
        buf.put_slice(&bytes);
        Ok(())
    }
}

fn corrupt(bytes: &mut [u8]) {
    let marker = NOT_UTF_8.as_bytes();
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|byte| *byte == marker[0]) {
        from += found;
        if bytes[from..].starts_with(marker) {
            bytes[from..][..marker.len()].fill(0xff);
        }
        from += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::v1::VersionResponse;

    #[test]
    fn a_marked_string_does_not_decode_and_any_other_does() {
        let good = VersionResponse { runtime_name: "containerd".into(), ..Default::default() };
        let mut bytes = good.encode_to_vec();
        corrupt(&mut bytes);
        assert_eq!(VersionResponse::decode(bytes.as_slice()).unwrap(), good);

        let bad = VersionResponse { runtime_name: NOT_UTF_8.into(), ..good };
        let mut bytes = bad.encode_to_vec();
        corrupt(&mut bytes);
        assert!(VersionResponse::decode(bytes.as_slice()).is_err());
    }
}
