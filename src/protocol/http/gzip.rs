//! Bodies compressed for whoever asks: Prometheus does, and saves most of a scrape's bytes.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING},
};

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Compresses the body if the client can read it then. Fast, not small: it holds up the core.
pub(super) fn compress(asked: &HeaderMap, response: &mut Response<Bytes>) {
    if !asked.get_all(ACCEPT_ENCODING).iter().any(names_gzip) {
        return;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(16 * 1024), Compression::fast());
    let written = encoder.write_all(response.body()).and_then(|()| encoder.finish());
    *response.body_mut() = written.expect("a Vec takes all").into();
    response.headers_mut().insert(CONTENT_ENCODING, GZIP);
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
            let mut response = Response::new(Bytes::from("a text".repeat(100)));
            let asked = [(ACCEPT_ENCODING, HeaderValue::from_static(accepted))].into_iter().collect();
            compress(&asked, &mut response);
            assert_eq!(response.headers().contains_key(CONTENT_ENCODING), compressed, "{accepted}");
            let mut body = response.body().to_vec();
            if compressed {
                assert!(body.len() < 100);
                let mut decoder = flate2::write::GzDecoder::new(Vec::new());
                body = decoder.write_all(&body).and_then(|()| decoder.finish()).expect("gzip");
            }
            assert_eq!(body, "a text".repeat(100).into_bytes(), "{accepted}");
        }
    }
}
