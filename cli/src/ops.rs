//! The operations listener of a process: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts it
//! or sends it traffic. Plain HTTP without credentials: bind it where only they reach it.
//!
//! `/healthz` says whether the process should be restarted, `/readyz` whether it should get traffic; both answer 200
//! or 503, with the reason for each part as JSON. A part that is ready may have notes: what is wrong around it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Histograms are drained this often: until then each keeps every value.
const UPKEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Something that is ready, with what is worth knowing all the same; or that says why it is not.
type Check = Box<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

/// The parts of this process that are asked.
#[derive(Default)]
pub struct Probes {
    live: Vec<(String, Check)>,
    ready: Vec<(String, Check)>,
}

impl Probes {
    /// A part without which the process should be restarted.
    pub fn live(
        &mut self,
        part: impl Into<String>,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let check = move || check().map(|()| Vec::new());
        self.live.push((part.into(), Box::new(check)));
    }

    /// A part without which the process should get no traffic.
    pub fn ready(
        &mut self,
        part: impl Into<String>,
        check: impl Fn() -> Result<Vec<String>, String> + Send + Sync + 'static,
    ) {
        self.ready.push((part.into(), Box::new(check)));
    }
}

/// A listener that serves; dropping it stops it.
pub struct Ops {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Ops {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

struct Served {
    probes: Probes,
    metrics: PrometheusHandle,
    process: Collector,
}

/// Serves until dropped.
pub async fn serve(
    listen: SocketAddr,
    metrics: PrometheusHandle,
    probes: Probes,
) -> anyhow::Result<Ops> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen for operations on {listen} (ops_listen)"))?;
    let address = listener
        .local_addr()
        .context("read the address of the operations listener")?;
    let upkeep = metrics.clone();
    let router = router(probes, metrics);
    let http = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "operations listener failed");
        }
    });
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(Ops {
        address,
        tasks: [http, upkeep],
    })
}

fn router(probes: Probes, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .route(
            "/healthz",
            get(async |State(served): State<Arc<Served>>| answer(&served.probes.live)),
        )
        .route(
            "/readyz",
            get(async |State(served): State<Arc<Served>>| answer(&served.probes.ready)),
        )
        .with_state(Arc::new(Served {
            probes,
            metrics,
            process: Collector::default(),
        }))
}

async fn render(State(served): State<Arc<Served>>) -> impl IntoResponse {
    served.process.collect();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        served.metrics.render(),
    )
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    part: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

fn answer(checks: &[(String, Check)]) -> (StatusCode, Json<Report>) {
    let parts: Vec<_> = checks
        .iter()
        .map(|(part, check)| {
            let (reason, notes) = match check() {
                Ok(notes) => (None, notes),
                Err(reason) => (Some(reason), Vec::new()),
            };
            Part {
                part: part.clone(),
                ok: reason.is_none(),
                reason,
                notes,
            }
        })
        .collect();
    let ok = parts.iter().all(|part| part.ok);
    (
        if ok {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        Json(Report { ok, parts }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_says_which_part_is_not_and_why() {
        let ready = Arc::new(AtomicBool::new(false));
        let asked = ready.clone();
        let mut probes = Probes::default();
        probes.live("node 1", || Ok(()));
        probes.ready("node 1", || Ok(vec!["node 2 is not heard".to_owned()]));
        probes.ready("gateway g1", move || {
            if asked.load(Ordering::Relaxed) {
                Ok(Vec::new())
            } else {
                Err("no cluster state yet".to_owned())
            }
        });
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
            .build_recorder()
            .handle();
        let ops = serve("127.0.0.1:0".parse().unwrap(), recorder, probes)
            .await
            .unwrap();
        let address = ops.address();
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.contains(r#"{"part":"gateway g1","ok":false,"reason":"no cluster state yet"}"#),
            "{answer}"
        );
        let noted = r#"{"part":"node 1","ok":true,"notes":["node 2 is not heard"]}"#;
        assert!(answer.contains(noted), "{answer}");
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));
    }
}
