//! `grpc.health.v1.Health`: whether calls are served, for load balancers and probes that speak gRPC.
//!
//! As in etcd, the one service there is to ask for is the empty name, and it serves for as long as there is anybody to
//! answer: what a member thinks of itself is told by the checks in [`super::health`].

use std::collections::HashMap;

use futures_util::{Stream, StreamExt, future, stream};

use super::{Api, Caller, Code, Error};
use crate::pb::grpc_health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
};

/// All of them together.
const ALL: &str = "";

pub async fn check(_: &Api, _: &Caller, request: HealthCheckRequest) -> Result<HealthCheckResponse, Error> {
    match status(&request) {
        ServingStatus::ServiceUnknown => {
            Err(Error::Malformed { code: Code::NotFound, text: "unknown service".into() })
        }
        status => Ok(response(status)),
    }
}

pub async fn list(_: &Api, _: &Caller, _: HealthListRequest) -> Result<HealthListResponse, Error> {
    let statuses = HashMap::from([(ALL.to_owned(), response(ServingStatus::Serving))]);
    Ok(HealthListResponse { statuses })
}

/// The status now, and then each change; there is none before the server stops.
pub fn watch(
    _: &Api,
    _: &Caller,
    request: HealthCheckRequest,
) -> Result<impl Stream<Item = Result<HealthCheckResponse, Error>> + 'static + use<>, Error> {
    let now = response(status(&request));
    Ok(stream::once(future::ready(Ok(now))).chain(stream::pending()))
}

fn status(request: &HealthCheckRequest) -> ServingStatus {
    if request.service == ALL { ServingStatus::Serving } else { ServingStatus::ServiceUnknown }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}
