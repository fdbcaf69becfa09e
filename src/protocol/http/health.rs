//! `/health`, `/livez` and `/readyz`: what their paths and queries ask, and the texts of the answers.

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use super::{PLAIN, method_not_allowed, ok, query::Query, refusal};
use crate::service::{
    Api,
    health::{self, Check, LIVEZ, READYZ},
};

pub(super) async fn health(api: &Api, method: &Method, query: &Query<'_>) -> Response<Bytes> {
    if method != Method::GET {
        tracing::warn!("status-code" = 405, "/health error");
        return method_not_allowed();
    }
    let serializable = query.first("serializable") == Some("true");
    let excluded = |name: &str| query.all("exclude").any(|excluded| excluded == name);
    match health::health(api, serializable, excluded).await {
        Ok(()) => ok(PLAIN, r#"{"health":"true","reason":""}"#),
        Err(reason) => {
            let output = serde_json::json!({"health": "false", "reason": reason}).to_string();
            tracing::warn!(output, "status-code" = 503, "/health error");
            refusal(StatusCode::SERVICE_UNAVAILABLE, output)
        }
    }
}

/// What one path runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    kind: &'static str,
    list: &'static [Check],
    /// `?exclude=NAME` works on the whole list only.
    may_exclude: bool,
}

impl Checks {
    /// `/readyz` runs all of its checks, `/readyz/NAME` one.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let (kind, all) = match path.strip_prefix('/')?.split('/').next()? {
            "livez" => ("livez", LIVEZ),
            "readyz" => ("readyz", READYZ),
            _ => return None,
        };
        match path[1 + kind.len()..].strip_prefix('/') {
            None => Some(Self { kind, list: all, may_exclude: true }),
            Some(name) => {
                let at = all.iter().position(|check| check.name() == name)?;
                Some(Self { kind, list: &all[at..=at], may_exclude: false })
            }
        }
    }

    pub(super) async fn run(self, api: &Api, method: &Method, query: &Query<'_>) -> Response<Bytes> {
        let Self { kind, list, may_exclude } = self;
        if method != Method::GET {
            tracing::warn!(path = kind, "status-code" = 405, "Health request error");
            return method_not_allowed();
        }
        let mut report = String::new();
        let mut healthy = true;
        for check in list {
            let name = check.name();
            if may_exclude && query.all("exclude").any(|excluded| excluded == name) {
                continue;
            }
            match check.run(api, kind).await {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(reason) => {
                    healthy = false;
                    report.push_str(&format!("[-]{name} failed: {reason}\n"));
                }
            }
        }
        if !healthy {
            tracing::error!(path = kind, reason = report, "status-code" = 503, "Health check error");
            return refusal(StatusCode::SERVICE_UNAVAILABLE, report);
        }
        let text = if query.has("verbose") { report + "ok" } else { "ok".to_owned() };
        refusal(StatusCode::OK, text)
    }
}
