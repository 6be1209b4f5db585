// SPDX-License-Identifier: MIT OR Apache-2.0
//! What went wrong in other modules of this kind, and must not in this one. `docs/testing.md` lists
//! all of it, with the tests of other themes that are about the same.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt as option};
use toa_cli::wire::{Flags, MAX_OPTIONS, toa};
use toa_testbed::Family;
use toa_vm_tests::{Conn, World, accept, node, original, sockopt, wait_readable};

use super::bpf;

/// `TOA_SO_ORIGINAL` of `toa.h`, and the size of its answer.
const TOA_SO_ORIGINAL: i32 = 0x544f_4100;
const SIZE: usize = 72;

#[track_caller]
fn told(socket: impl AsFd) -> Option<SocketAddr> {
    let told = libtoa::original(socket).expect("the module answers");
    told.map(|told| told.addr)
}

/// A module copied as many bytes as the option said, into a field of 20.
#[test]
fn a_length_from_the_wire_never_says_how_much_is_copied() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        for kind in [200, 253, 254] {
            for length in 2..=MAX_OPTIONS as u8 {
                let mut option = vec![0xff; usize::from(length)];
                option[..2].copy_from_slice(&[kind, length]);
                let conn = world.connect(Family::V4, &listener, &option, &option);
                let mut answer = [0xaa; SIZE + 16];
                let written =
                    sockopt::get(&conn.stream, libc::IPPROTO_IP, TOA_SO_ORIGINAL, &mut answer);
                assert_eq!(written, Ok(SIZE));
                // Kind and length of the option, and the client's sixteen bytes.
                let expected = match (kind, length) {
                    (200 | 254, 8) => [&[kind, length][..], &[0xff; 4], &[0; 12]].concat(),
                    (_, 20) => [&[kind, length][..], &[0xff; 16]].concat(),
                    _ => vec![0; 18],
                };
                let got = [&answer[6..8], &answer[16..32]].concat();
                assert_eq!(got, expected, "{kind}/{length}");
                assert_eq!(answer[13..16], [0; 3], "{kind}/{length}");
                assert_eq!(answer[48..72], [0; 24], "{kind}/{length}");
                assert_eq!(answer[SIZE..], [0xaa; 16], "{kind}/{length}");
            }
        }
    });
}

/// A module read one byte past the options, and another moved as many bytes as a header said.
#[test]
fn an_option_never_goes_on_into_the_data() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let client = original(Family::V4, 7, 7);
        let options = toa(200, client);
        for cut in [1, 2, 4, 7] {
            // The header ends where the option is cut off, and what follows in the packet is the
            // rest of it.
            for padding in [0, MAX_OPTIONS - 8] {
                let mut area = vec![1; padding];
                area.resize((padding + cut).next_multiple_of(4) - cut, 1);
                area.extend(&options[..cut]);
                let data = &options[cut..];

                let mut end = world.client(Family::V4, &listener);
                let mut syn = end.segment(Flags::SYN);
                syn.options.clone_from(&area);
                syn.payload = data.to_vec();
                end.send(&syn).unwrap();
                end.seq = end.seq.wrapping_add(1);
                end.patience = Duration::from_millis(100);
                let passed = end.recv_syn_ack().is_ok();
                end.patience = node::PATIENCE;
                if !passed {
                    // A kernel with TCP-AO drops it, here and below.
                    end.seq = end.seq.wrapping_sub(1);
                    end.syn(&[]).unwrap();
                    end.recv_syn_ack().unwrap();
                }
                end.data_with(data, &area).unwrap();
                if !wait_readable(&listener, Duration::from_millis(100)) {
                    end.seq = end.seq.wrapping_sub(data.len() as u32);
                    end.data(data).unwrap();
                }
                let mut conn = Conn::accepted(end, &listener);
                assert_eq!(told(&conn.stream), None, "{area:?}");
                conn.server_reads(data);
            }
        }
    });
}

/// A module told any user of any connection that they could name.
#[test]
fn nobody_is_told_of_a_connection_that_is_not_theirs() {
    World::run(|world| {
        let listener = world.listen(Family::V4);
        let [mine, theirs] = [1, 2].map(|host| original(Family::V4, host, 1000));
        let my_conn = world.connect(Family::V4, &listener, &toa(200, mine), &[]);
        let their_conn = world.connect(Family::V4, &listener, &[], &toa(200, theirs));
        // What stands in the buffer is no question.
        let ask = |conn: &Conn, answer: &mut [u8]| {
            sockopt::get(&conn.stream, libc::IPPROTO_IP, TOA_SO_ORIGINAL, answer)
        };
        let mut clean = [0; SIZE];
        ask(&my_conn, &mut clean).unwrap();
        let mut answer = [0; SIZE];
        ask(&their_conn, &mut answer).unwrap();
        assert_ne!(answer, clean);
        ask(&my_conn, &mut answer).unwrap();
        assert_eq!(answer, clean);
        assert_eq!(told(&my_conn.stream), Some(mine));
        assert_eq!(told(&their_conn.stream), Some(theirs));
        // Nor do the files say who is connected.
        for file in ["/proc/net/toa", "/proc/net/toa_stats"] {
            let text = fs::read_to_string(file).unwrap();
            for addr in [mine, theirs, my_conn.client.local()] {
                assert!(!text.contains(&addr.ip().to_string()), "{file}: {text}");
            }
        }
    });
}

/// Modules that keep the address in `sk_user_data` make kTLS follow it as a pointer.
#[test]
fn ktls_works_on_a_connection_with_an_address() {
    World::run(|world| {
        for family in Family::ALL {
            let client = original(family, 7, 7);
            let kind = if client.is_ipv4() { 200 } else { 253 };
            let listener = world.listen(family);
            let mut conn = world.connect(family, &listener, &toa(kind, client), &[]);
            match setsockopt(&conn.stream, option::TcpUlp::default(), b"tls") {
                Err(Errno::ENOENT) => return node::skip("this kernel has no kTLS"),
                done => done.expect("kTLS"),
            }
            // The key is nobody's: what is looked at is that a record comes out.
            let key = libc::tls12_crypto_info_aes_gcm_128 {
                info: libc::tls_crypto_info {
                    version: libc::TLS_1_2_VERSION,
                    cipher_type: libc::TLS_CIPHER_AES_GCM_128,
                },
                iv: [1; 8],
                key: [2; 16],
                salt: [3; 4],
                rec_seq: [0; 8],
            };
            let key = option::TlsCryptoInfo::Aes128Gcm(key);
            setsockopt(&conn.stream, option::TcpTlsTx, &key).expect("a key for kTLS");
            conn.stream.write_all(b"hello").expect("a record");
            let record = loop {
                let segment = conn.client.recv().expect("a record");
                if !segment.payload.is_empty() {
                    break segment.payload;
                }
            };
            // Application data of TLS 1.2: a number of 8 bytes, the text, a tag of 16.
            assert_eq!(record[..5], [23, 3, 3, 0, 8 + 5 + 16]);
            assert_eq!(record.len(), 5 + 8 + 5 + 16);
            assert!(!record.windows(5).any(|text| text == b"hello"));
            conn.client.ack(&[]).unwrap();
            assert_eq!(told(&conn.stream), Some(client));
        }
    });
}

/// The same modules give sockmap EBUSY, or a wild pointer.
#[test]
fn sockmap_takes_a_connection_with_an_address() {
    World::run(|world| {
        for family in Family::ALL {
            let client = original(family, 7, 7);
            let kind = if client.is_ipv4() { 200 } else { 253 };
            let listener = world.listen(family);
            let mut conn = world.connect(family, &listener, &[], &toa(kind, client));
            let map = match bpf::sockmap(1) {
                Err(Errno::EINVAL | Errno::ENOSYS) => {
                    return node::skip("this kernel has no sockmap");
                }
                map => map.expect("a map of sockets"),
            };
            bpf::insert(&map, 0, &conn.stream).expect("a socket for the map");
            conn.exchange();
            assert_eq!(told(&conn.stream), Some(client));
            drop(map);
            conn.exchange();
            assert_eq!(told(&conn.stream), Some(client));
        }
    });
}

/// Modules that replace getname answer getpeername and forget accept.
#[test]
fn accept_and_getpeername_agree() {
    World::run(|world| {
        for family in Family::ALL {
            let any = TcpListener::bind("[::]:0").unwrap();
            for listener in [world.listen(family), any] {
                let client = original(family, 7, 7);
                let kind = if client.is_ipv4() { 200 } else { 253 };
                for (syn, ack) in [(toa(kind, client), vec![]), (vec![], toa(kind, client))] {
                    let mut end = world.client(family, &listener);
                    end.connect(&syn, &ack).unwrap();
                    let (stream, accepted): (TcpStream, _) = accept(&listener);
                    assert_eq!(accepted, stream.peer_addr().unwrap());
                    let wire = SocketAddr::new(accepted.ip().to_canonical(), accepted.port());
                    assert_eq!(wire, end.local());
                    let told = libtoa::original(&stream).unwrap().unwrap();
                    assert_eq!(told.peer, accepted);
                    assert_eq!(told.addr.ip().to_canonical(), client.ip());
                    end.rst().unwrap();
                }
            }
        }
    });
}

/// Sockets of a kind, as the allocator counts them.
fn allocated(cache: &str) -> u64 {
    let text = fs::read_to_string("/proc/slabinfo").unwrap();
    let mut words = text
        .lines()
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next() == Some(cache)).then_some(words))
        .unwrap_or_else(|| panic!("no {cache} in /proc/slabinfo"));
    words.next().unwrap().parse().unwrap()
}

/// The sockets that /proc/net/sockstat counts, of both families.
fn sockets() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let mut words = line.split_whitespace().skip_while(|word| *word != "alloc");
    words.nth(1).unwrap().parse().unwrap()
}

/// A module put the destructor of another family into sockets, which then were not freed in full.
#[test]
fn closed_sockets_are_freed_in_full() {
    const CONNECTIONS: u64 = 200;
    World::run(|world| {
        for (family, cache) in [(Family::V4, "TCP"), (Family::V6, "TCPv6")] {
            let client = original(family, 7, 7);
            let kind = if client.is_ipv4() { 200 } else { 253 };
            let listener = world.listen(family);
            let connect = || drop(world.connect(family, &listener, &toa(kind, client), &[]));
            connect();
            let (before, before_in_cache) = (sockets(), allocated(cache));
            for _ in 0..CONNECTIONS {
                connect();
            }
            node::wait_until("all sockets are freed", || sockets() <= before);
            // The allocator keeps some at hand.
            let grown = allocated(cache).saturating_sub(before_in_cache);
            assert!(grown < CONNECTIONS / 2, "{cache} has {grown} more");
        }
    });
}

/// Modules make the kernel's memory writable, patch it, and leave it so; or look up what is not
/// exported.
#[test]
fn nothing_is_imported_that_could_patch_the_kernel() {
    let module = fs::read(node::module_file()).unwrap();
    let names = |name: &str| {
        let name = [b"\0", name.as_bytes(), b"\0"].concat();
        module.windows(name.len()).any(|at| at == name)
    };
    // That is how an imported name looks.
    assert!(names("nf_register_sockopt"));
    for name in [
        "set_memory_rw",
        "set_memory_ro",
        "set_memory_x",
        "set_pages_rw",
        "change_page_attr_set_clr",
        "update_mapping_prot",
        "lookup_address",
        "text_poke",
        "native_write_cr0",
        "init_mm",
        "vmap",
        "kallsyms_lookup_name",
        "kallsyms_on_each_symbol",
        "inet_stream_ops",
        "inet6_stream_ops",
        "ipv4_specific",
        "ipv6_specific",
        "ipv6_mapped",
        "tcp_prot",
        "tcpv6_prot",
        "inet_sock_destruct",
    ] {
        assert!(!names(name), "the module imports {name}");
    }
}
