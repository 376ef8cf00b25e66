//! Connections: accepting them, bounding them, and letting them end.
//!
//! Each connection gets a bounded header and a bounded time to send it, which is what a client that trickles bytes runs
//! into; a body is bounded by the time of the whole request. There are only so many connections at once; what comes
//! beyond that waits in the listen queue of the operating system. HTTP/1.1 only: it is what proxies speak to a backend.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::Layer;

use crate::{
    limits::{HEADER_BYTES, HEADERS_MAX},
    service::Service,
};

/// How long to wait before accepting again, where the process has run out of what a connection needs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is done, then lets the requests in flight end within `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    service: Arc<Service>,
    stop: impl Future<Output = ()> + Send,
    grace: Duration,
) {
    let limits = service.limits().clone();
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_read_ms))
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS_MAX)
        .keep_alive(true);
    tokio::pin!(stop);
    loop {
        let (stream, address, place) = tokio::select! {
            accepted = accept(&listener, &places) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let with_address = Extension(ConnectInfo(address)).layer(router.clone());
        let connection =
            server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(with_address));
        let watched = connections.watch(connection);
        tokio::spawn(async move {
            // A client that goes away in the middle is its own affair.
            let _ = watched.await;
            drop(place);
        });
    }
    drop(listener);
    service.events().stop();
    if tokio::time::timeout(grace, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end within the time that was given");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, place))
}
