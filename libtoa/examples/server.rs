// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that tells each client who it is: what `getpeername` says, and what libtoa says.
//!
//! ```text
//! server --listen 10.0.0.1:8080 --listen '[fd00::1]:8080'
//! ```
//!
//! answers every HTTP request with one line and closes the connection:
//!
//! ```text
//! peer=10.0.0.2:40312 original=203.0.113.7:51820 carried_by=ack kind=200
//! ```

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, process, thread};

fn main() {
    let mut addresses = Vec::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--listen", Some(address)) => addresses.push(address),
            _ => usage(),
        }
    }
    if addresses.is_empty() {
        usage();
    }

    let listeners: Vec<_> = addresses
        .iter()
        .map(|address| {
            TcpListener::bind(address).unwrap_or_else(|error| {
                eprintln!("server: cannot listen on {address}: {error}");
                process::exit(1);
            })
        })
        .collect();
    thread::scope(|scope| {
        for (listener, address) in listeners.iter().zip(&addresses) {
            eprintln!("listening on {address}");
            scope.spawn(move || {
                for stream in listener.incoming() {
                    thread::spawn(|| {
                        if let Err(error) = stream.and_then(serve) {
                            eprintln!("server: {error}");
                        }
                    });
                }
            });
        }
    });
}

fn usage() -> ! {
    eprintln!("usage: server --listen ADDRESS:PORT...");
    process::exit(2);
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let line = describe(&stream)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    read_head(&mut stream)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{line}",
        line.len()
    )
}

/// The part that a server of your own would have.
fn describe(stream: &TcpStream) -> io::Result<String> {
    let peer = stream.peer_addr()?;
    Ok(match libtoa::original(stream) {
        Ok(Some(original)) => format!(
            "peer={peer} original={} carried_by={} kind={}",
            original.addr, original.segment, original.kind
        ),
        Ok(None) => format!("peer={peer} original=none carried_by=- kind=-"),
        Err(error) => format!("peer={peer} original=unavailable ({error}) carried_by=- kind=-"),
    })
}

/// Reads up to the blank line that ends a request's head.
fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 64 * 1024 {
        match stream.read(&mut chunk)? {
            0 => break,
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(())
}
