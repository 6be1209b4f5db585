// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a server waits for its client's address: `cargo bench -p libtoa`.
//!
//! On a machine without the module this is what asking in vain takes. With it, and a connection that
//! carried no address: `scripts/vm -- PROGRAM --bench`, with the program that cargo names.

use std::hint::black_box;
use std::net::{TcpListener, TcpStream};

use criterion::Criterion;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let _client = TcpStream::connect(address).expect("a connection");
    let (server, _) = listener.accept().expect("the server's end of it");

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("getpeername", |b| b.iter(|| black_box(server.peer_addr())));
    criterion.bench_function("original", |b| {
        b.iter(|| black_box(libtoa::original(&server)));
    });
    criterion.bench_function("client_addr", |b| {
        b.iter(|| black_box(libtoa::client_addr(&server)));
    });
    criterion.final_summary();
}
