// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the library says on a machine whose kernel has no module loaded, like the one that builds.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use libtoa::Error;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn not_loaded() {
    let (_client, server) = pair();
    assert!(matches!(libtoa::original(&server), Err(Error::NotLoaded)));
    assert!(matches!(libtoa::abi(), Err(Error::NotLoaded)));
}

#[test]
fn the_peer_stands_in() {
    let (client, server) = pair();
    assert_eq!(
        libtoa::client_addr(&server).unwrap(),
        client.local_addr().unwrap()
    );
}

#[test]
fn no_ip_socket() {
    let (one, _other) = UnixStream::pair().unwrap();
    assert!(matches!(libtoa::original(&one), Err(Error::NotTcp)));
    assert!(libtoa::client_addr(&one).is_err());
}

#[test]
fn no_socket() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(libtoa::original(&file), Err(Error::NotTcp)));
}

#[test]
fn not_connected() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(libtoa::client_addr(&socket).is_err());
}

/// Callers may send errors between threads, and box them.
#[test]
fn types() {
    fn is<T: Send + Sync + 'static>() {}
    is::<libtoa::Original>();
    is::<Error>();
    fn error<T: std::error::Error>() {}
    error::<Error>();
}
