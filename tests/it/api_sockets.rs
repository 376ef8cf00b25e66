//! The server on real sockets: what a connection may do, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesto::{http, limits::Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::api_world::World;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    world: World,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let world = World::with(limits);
        world.furnish().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let (router, service) = (world.router.clone(), Arc::clone(&world.service));
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(http::serve(listener, router, service, stopped, PATIENCE));
        Self {
            world,
            address,
            stop,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("the server listens")
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream
            .write_all(text.as_bytes())
            .await
            .expect("the server reads");
        stream
    }
}

/// Everything that comes until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What comes until a text is there.
async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains(text) {
        let count = timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .expect("it comes in time")
            .expect("it can be read");
        assert!(count > 0, "the stream ended before {text:?}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    seen
}

#[tokio::test]
async fn a_header_that_trickles_or_swells_ends_its_connection() {
    let server = Server::start(Limits {
        header_read_ms: 200,
        ..Limits::default()
    })
    .await;
    let slow = server.send("GET /livez HTTP/1.1\r\nhost: a\r\n").await;
    let answer = rest(slow).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    let many: String = (0..100)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    let answer = rest(
        server
            .send(&format!("GET /livez HTTP/1.1\r\nhost: a\r\n{many}\r\n"))
            .await,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let long = |bytes: usize| {
        format!(
            "GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
            "y".repeat(bytes)
        )
    };
    let answer = rest(server.send(&long(33_000)).await).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut stream = server.connect().await;
    let _ = stream.write_all(long(4_000_000).as_bytes()).await;
    let answer = rest(stream).await;
    // What was not read any more may reset the connection before the answer is through.
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    let good = server
        .send("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    assert!(rest(good).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_trickles_is_told_that_nothing_happened() {
    let server = Server::start(Limits {
        request_ms: 400,
        ..Limits::default()
    })
    .await;
    let head = "POST /api/v1/users HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let mut stream = server.send(head).await;
    let answer = until(&mut stream, "not_applied").await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"),
        "{answer}"
    );
}

#[tokio::test]
async fn stopping_ends_streams_and_refuses_new_connections() {
    let server = Server::start(Limits::default()).await;
    let mut events = server
        .send("GET /api/v1/spaces/nevsky/events HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    until(&mut events, "event: ready").await;
    server.stop.send(()).expect("the server runs");
    timeout(PATIENCE, server.task)
        .await
        .expect("it stops in time")
        .expect("it does not panic");
    assert!(!rest(events).await.contains("event: change"));
    assert!(TcpStream::connect(server.address).await.is_err());
    drop(server.world);
}

#[tokio::test]
async fn live_changes_come_over_the_wire() {
    let server = Server::start(Limits {
        event_keep_alive_ms: 50,
        ..Limits::default()
    })
    .await;
    let token = server.world.member("anna@example.com").await;
    let desks = server.world.desks().await;
    let mut events = server
        .send("GET /api/v1/spaces/nevsky/events HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    until(&mut events, "event: ready").await;
    until(&mut events, ": still here").await;
    let booked = server.world.book(&token, &desks[0], "10:00", "11:00").await;
    let seen = until(&mut events, "\"booked\"").await;
    assert!(
        seen.contains("event: change") && seen.contains(&format!("id: {}", booked.index())),
        "{seen}"
    );
    assert!(seen.contains(&desks[0]) && !seen.contains("anna"), "{seen}");
}
