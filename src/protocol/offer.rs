//! What is served where.

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub grpc: bool,
    pub http: Option<Surface>,
}

/// Which plain endpoints a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A client listener: everything, with CORS headers.
    Client,
    /// `--listen-metrics-urls`: metrics and health.
    Metrics,
    /// `--listen-peer-urls`: what other members ask.
    Peer,
}

impl Offer {
    /// `--listen-peer-urls`.
    pub const PEER: Offer = Offer { grpc: false, http: Some(Surface::Peer) };
    /// `--listen-client-urls`.
    pub const CLIENT: Offer = Offer { grpc: true, http: Some(Surface::Client) };
    /// `--listen-client-urls` when there are `--listen-client-http-urls` beside them.
    pub const CLIENT_GRPC: Offer = Offer { grpc: true, http: None };
    /// `--listen-client-http-urls`.
    pub const CLIENT_HTTP: Offer = Offer { grpc: false, http: Some(Surface::Client) };
    /// `--listen-metrics-urls`.
    pub const METRICS: Offer = Offer { grpc: false, http: Some(Surface::Metrics) };
}
