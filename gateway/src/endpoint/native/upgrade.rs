//! The routes of a native listener: the WebSocket at `/ws`, and static files. The subprotocol decides the format.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use super::codec::Format;
use super::socket;
use crate::endpoint::{Connection, web};

const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// The routes, with the files of `page_dir` if there is one.
pub fn routes(page_dir: Option<&Path>) -> Router {
    let mut routes = Router::new().route("/ws", any(upgrade));
    routes = match page_dir {
        Some(folder) => routes.fallback_service(ServeDir::new(folder)),
        None => routes.fallback(async || (StatusCode::NOT_FOUND, "the WebSocket is at /ws\n")),
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        routes = routes.layer(with_header(name, value));
    }
    routes
}

fn with_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

async fn upgrade(
    Extension(connection): Extension<Arc<Connection>>,
    mut request: Request,
) -> Response {
    let mut response = match create_response_with_body(&request, axum::body::Body::empty) {
        Ok(response) => response,
        Err(error) => return refused(&format!("a WebSocket upgrade is needed here: {error}\n")),
    };
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offers = offers.iter().filter_map(|offer| offer.to_str().ok());
    let Some(format) = offers.find_map(Format::negotiate) else {
        return refused("offer the subprotocol parlance.v1 or parlance.v1.json\n");
    };
    response.headers_mut().insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(format.protocol()),
    );
    let upgrade = hyper::upgrade::on(&mut request);
    connection.shared.tasks.clone().spawn(async move {
        // Boxed, so that a WebSocket's task does not carry the room of its handshake for life.
        let Some((stream, read)) = Box::pin(web::upgraded(upgrade)).await else {
            return;
        };
        let _place = connection.place.clone();
        socket::run(connection, stream, read, format).await;
    });
    response
}

fn refused(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, why.to_owned()).into_response()
}
