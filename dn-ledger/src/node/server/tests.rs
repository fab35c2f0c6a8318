use std::time::Instant;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;

const HEAD_WAIT: Duration = Duration::from_millis(200);

async fn start(connections: usize) -> (std::net::SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let app = Router::new().route("/", get(|| async { "here" }));
    let app = app.route("/long", get(|| async { "x".repeat(64 << 20) }));
    let limits =
        ServiceLimits { connections, head_wait: HEAD_WAIT, read_wait: HEAD_WAIT, ..Default::default() };
    tokio::spawn(serve(listener, app, limits, stopped));
    (address, stop)
}

async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
    let _ = reading.await.expect("the node closes the connection");
    answer
}

#[tokio::test]
async fn who_never_ends_a_head_is_cut_off() {
    let (address, _stop) = start(4).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let began = Instant::now();
    assert_eq!(until_closed(&mut stream).await, b"");
    assert!(began.elapsed() >= HEAD_WAIT / 2);
}

#[tokio::test]
async fn connections_are_bounded_and_come_free() {
    let (address, _stop) = start(1).await;
    let ask = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let said = String::from_utf8(until_closed(&mut second).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("1 connections"), "{said}");
    until_closed(&mut idle).await;
    let mut third = TcpStream::connect(address).await.unwrap();
    third.write_all(ask).await.unwrap();
    assert!(until_closed(&mut third).await.ends_with(b"here"));
}

#[tokio::test]
async fn who_does_not_read_loses_its_place() {
    let (address, _stop) = start(1).await;
    let ask = b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut lazy = TcpStream::connect(address).await.unwrap();
    lazy.write_all(ask).await.unwrap();
    let began = Instant::now();
    loop {
        tokio::time::sleep(HEAD_WAIT).await;
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        if until_closed(&mut next).await.ends_with(b"here") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it keeps its place");
    }
}

/// A client that takes a little each time, over a connection that holds little: every write makes progress, and all takes for ever.
#[tokio::test]
async fn who_takes_too_little_is_cut_off() {
    let small = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4_096).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket
    };
    let served = small();
    served.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = served.listen(1).unwrap();
    let mut client = small().connect(listener.local_addr().unwrap()).await.unwrap();
    let wait = Duration::from_millis(400);
    let mut patient = Patient::new(listener.accept().await.unwrap().0, wait);
    let writing = tokio::spawn(async move { patient.write_all(&vec![7; 4 << 20]).await });
    let (began, mut part, mut reads) = (Instant::now(), [0; 2_048], 0);
    while !writing.is_finished() && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        reads += usize::from(client.read(&mut part).await.unwrap() > 0);
    }
    assert!(began.elapsed() < Duration::from_secs(15), "it may go on for ever");
    assert!(reads > 10, "it took something all the time: {reads}");
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn who_reads_slowly_gets_all() {
    let (address, _stop) = start(1).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let (mut part, mut total) = (vec![0; 8 << 20], 0);
    loop {
        tokio::time::sleep(HEAD_WAIT / 8).await;
        match slow.read(&mut part).await.unwrap() {
            0 => break,
            read => total += read,
        }
    }
    assert!(total > 64 << 20, "{total}");
}
