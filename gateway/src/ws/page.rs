//! Static files of one folder for GET: no path that leaves the folder, no listing, whole files in memory while
//! they are sent (a demo page, not a file server).

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header};

/// Bytes of the largest file served.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// Answers a GET of `path`.
pub async fn serve(folder: &Path, path: &str) -> Response<Full<Bytes>> {
    let Some(relative) = relative_path(path) else {
        return plain(StatusCode::NOT_FOUND, "not found\n");
    };
    let Ok(file) = tokio::fs::canonicalize(folder.join(relative)).await else {
        return plain(StatusCode::NOT_FOUND, "not found\n");
    };
    // A link in the folder may point outside it.
    let readable = file.starts_with(folder)
        && tokio::fs::metadata(&file)
            .await
            .is_ok_and(|m| m.is_file() && m.len() <= FILE_BYTES_MAX);
    if !readable {
        return plain(StatusCode::NOT_FOUND, "not found\n");
    }
    let Ok(body) = tokio::fs::read(&file).await else {
        return plain(StatusCode::NOT_FOUND, "not found\n");
    };
    let mut response = plain(StatusCode::OK, "");
    *response.body_mut() = Full::new(Bytes::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type(&file)),
    );
    response
}

/// A short text answer with the headers that all answers carry.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn relative_path(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?;
    let path = if path.is_empty() || path.ends_with('/') {
        format!("{path}index.html")
    } else {
        path.to_owned()
    };
    // Encoded characters are not decoded: our files have plain names.
    let relative = PathBuf::from(path);
    let plain_parts = relative.components().all(
        |part| matches!(part, Component::Normal(name) if name.to_str().is_some_and(|n| !n.starts_with('.') && !n.contains(['\\', '\0', '%']))),
    );
    plain_parts.then_some(relative)
}

fn content_type(file: &Path) -> &'static str {
    match file.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("txt") => "text/plain; charset=utf-8",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leaves_the_folder() {
        for path in [
            "/../x",
            "/a/../../x",
            "//etc/passwd",
            "/.git/config",
            "/%2e%2e/x",
            "/a\\..\\x",
            "x",
            "/a/./.x",
        ] {
            assert_eq!(relative_path(path), None, "{path}");
        }
        assert_eq!(relative_path("/"), Some(PathBuf::from("index.html")));
        assert_eq!(relative_path("/a/b.js"), Some(PathBuf::from("a/b.js")));
    }
}
