//! The codec of the generated services: prost, with buffers as small as most messages.
//!
//! tonic sets a decoding and an encoding buffer aside for every call, 8 KiB each by default: with a
//! thousand calls in flight they alone would fill the core's cache. Larger messages grow theirs.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec as TonicCodec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes set aside for a request: a key and a small value.
const REQUEST_BYTES: usize = 512;
/// Bytes set aside for a response: a header, and a little more.
const RESPONSE_BYTES: usize = 128;
/// A stream's messages are gathered up to this before they are sent (tonic's default).
const YIELD_BYTES: usize = 32 * 1024;

/// Encodes `E`, decodes `D`.
pub struct Codec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for Codec<E, D> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<E, D> TonicCodec for Codec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = ProstEncoder<E>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(RESPONSE_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(REQUEST_BYTES, YIELD_BYTES))
    }
}
