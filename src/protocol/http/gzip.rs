//! Bodies compressed for whoever asks: Prometheus does, and saves most of a scrape's bytes.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header::ACCEPT_ENCODING};

/// What a compressed body is marked with.
pub(super) const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Whether the client can read a compressed body.
pub(super) fn is_accepted(asked: &HeaderMap) -> bool {
    asked.get_all(ACCEPT_ENCODING).iter().any(names_gzip)
}

/// Fast, not small: it holds up the core.
pub(super) fn compress(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(16 * 1024), Compression::fast());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.expect("a Vec takes all").into()
}

/// Not with the weight zero, which forbids it.
fn names_gzip(accepted: &HeaderValue) -> bool {
    accepted.as_bytes().split(|byte| *byte == b',').any(|encoding| {
        let mut parts = encoding.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
        let weight = parts.find_map(|parameter| parameter.strip_prefix(b"q="));
        is_gzip && !weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whoever_names_it_gets_it() {
        for (accepted, compressed) in [
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("gzip", true),
            ("zstd, GZIP;q=0.5", true),
            ("deflate;q=0, gzip;q=1.0", true),
        ] {
            let asked = [(ACCEPT_ENCODING, HeaderValue::from_static(accepted))].into_iter().collect();
            assert_eq!(is_accepted(&asked), compressed, "{accepted}");
        }
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let text = "a text".repeat(100);
        let body = compress(text.as_bytes());
        assert!(body.len() < 100);
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        assert_eq!(decoder.write_all(&body).and_then(|()| decoder.finish()).expect("gzip"), text.as_bytes());
    }
}
