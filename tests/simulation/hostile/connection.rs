//! A decent client's connection: h2 over a simulated socket, one call at a time.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client;
use pinion::{
    env::sim::{Sim, SimStream},
    types::MemberId,
};
use prost::Message;

pub struct Connection {
    sender: client::SendRequest<Bytes>,
}

impl Connection {
    pub async fn open(sim: &Sim, from: MemberId, to: SocketAddr) -> Result<Self, String> {
        let socket = sim.connect(from, to).await.map_err(|error| error.to_string())?;
        let (sender, connection) =
            client::handshake(SimStream(socket)).await.map_err(|error| error.to_string())?;
        sim.spawn(from, async move {
            // Whoever waits for an answer on it hears of it, too.
            drop(connection.await);
        });
        Ok(Self { sender })
    }

    /// The message of the answer, or why there is none.
    pub async fn call<T: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
    ) -> Result<T, String> {
        let failed = |error: h2::Error| error.to_string();
        let request = http::Request::post(format!("http://x/etcdserverpb.KV/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let mut sender = self.sender.clone().ready().await.map_err(failed)?;
        let (response, mut body) = sender.send_request(request, false).map_err(failed)?;
        body.send_data(bench_harness::hostile::requests::framed(message).into(), true).map_err(failed)?;
        let response = response.await.map_err(failed)?;
        if response.headers().contains_key("grpc-status") {
            return Err(status(response.headers()));
        }
        let mut body = response.into_body();
        let mut answer = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(failed)?;
            body.flow_control().release_capacity(data.len()).map_err(failed)?;
            answer.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.map_err(failed)?.ok_or("no trailers")?;
        if trailers.get("grpc-status").is_none_or(|status| status != "0") {
            return Err(status(&trailers));
        }
        let message = answer.get(5..).ok_or("no message")?;
        T::decode(message).map_err(|error| error.to_string())
    }
}

fn status(headers: &http::HeaderMap) -> String {
    let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("not ascii"));
    format!("{} {}", text("grpc-status"), text("grpc-message"))
}
