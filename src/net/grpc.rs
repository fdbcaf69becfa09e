//! gRPC: which service and method a request is for, and tonic's generated servers behind it.
//!
//! A file per service joins tonic's generated trait to the plain handlers of [`Api`].

mod body;
mod call;
mod cluster;
mod deadline;
mod kv;
mod maintenance;

use std::{cell::RefCell, convert::Infallible, future::Future, pin::Pin, sync::Arc};

use hyper::{Request, Response, body::Incoming};
use prometheus::IntCounter;
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxFuture, Service},
};

use crate::{
    api::{Api, Keyspace},
    limits,
    pb::etcdserverpb::{
        cluster_server::{self, ClusterServer},
        kv_server::{self, KvServer},
        maintenance_server::{self, MaintenanceServer},
    },
};
use body::MessageBound;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

/// All gRPC services of a core.
pub(super) struct Grpc<K> {
    kv: Served<KvServer<kv::Service<K>>>,
    cluster: Served<ClusterServer<cluster::Service<K>>>,
    maintenance: Served<MaintenanceServer<maintenance::Service<K>>>,
    received_bytes: IntCounter,
    message_max: usize,
}

/// A generated server twice: a response is compressed if its request was, as grpc-go does.
struct Served<S> {
    plain: RefCell<S>,
    gzip: RefCell<S>,
}

macro_rules! served {
    ($server:ident, $service:expr, $max:expr) => {{
        let service = Arc::new($service);
        let server = || {
            $server::from_arc(service.clone())
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size($max)
                .max_encoding_message_size(limits::SEND_MESSAGE_BYTES_MAX)
        };
        Served {
            plain: RefCell::new(server()),
            gzip: RefCell::new(server().send_compressed(CompressionEncoding::Gzip)),
        }
    }};
}

impl<K: Keyspace> Grpc<K> {
    pub(super) fn new(api: &Api<K>) -> Self {
        let message_max = api.options().max_request_bytes + limits::GRPC_OVERHEAD_BYTES;
        Self {
            kv: served!(KvServer, kv::Service::new(api), message_max),
            cluster: served!(ClusterServer, cluster::Service::new(api), message_max),
            maintenance: served!(MaintenanceServer, maintenance::Service::new(api), message_max),
            received_bytes: api.metrics().grpc_received_bytes.clone(),
            message_max,
        }
    }

    pub(super) fn call(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
            return unimplemented(format!("malformed method name: {path:?}"));
        };
        match service {
            kv_server::SERVICE_NAME if kv::METHODS.contains(&method) => self.kv.call(request, self),
            cluster_server::SERVICE_NAME if cluster::METHODS.contains(&method) => {
                self.cluster.call(request, self)
            }
            maintenance_server::SERVICE_NAME if maintenance::METHODS.contains(&method) => {
                self.maintenance.call(request, self)
            }
            kv_server::SERVICE_NAME | cluster_server::SERVICE_NAME | maintenance_server::SERVICE_NAME => {
                unimplemented(format!("unknown method {method} for service {service}"))
            }
            _ => unimplemented(format!("unknown service {service}")),
        }
    }
}

impl<S> Served<S>
where
    S: Service<
            Request<MessageBound>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        >,
{
    fn call<K>(&self, request: Request<Incoming>, grpc: &Grpc<K>) -> Answer {
        let compressed =
            request.headers().get("grpc-encoding").is_some_and(|encoding| encoding.as_bytes() == b"gzip");
        let request =
            request.map(|body| MessageBound::new(body, grpc.message_max, grpc.received_bytes.clone()));
        let server = if compressed { &self.gzip } else { &self.plain };
        server.borrow_mut().call(request)
    }
}

/// What grpc-go answers when nobody has registered for a path.
fn unimplemented(text: String) -> Answer {
    Box::pin(async move { Ok(tonic::Status::unimplemented(text).into_http()) })
}
