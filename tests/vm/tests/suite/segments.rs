// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handshakes that do not go by the book: the right address or none.
//!
//! SYN cookies, floods and forged SYNs are in `table.rs`, the ordinary handshakes in `carriers.rs`.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};

use libtoa::Segment;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, socket,
};
use toa_cli::client::Client;
use toa_cli::wire::{self, Flags, toa};
use toa_testbed::Family;
use toa_vm_tests::node::{PATIENCE, Sysctl, netstat};
use toa_vm_tests::{Conn, Stats, World, accept, original, server_ip, sessions, sessions_become};

/// Sets an option of TCP.
#[track_caller]
fn set(socket: impl AsFd, name: libc::c_int, value: libc::c_int) {
    // SAFETY: `value` is readable for the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    Errno::result(result).unwrap();
}

#[track_caller]
pub(super) fn told(socket: impl AsFd) -> Option<(SocketAddr, Segment)> {
    let told = libtoa::original(socket).expect("the module answers");
    told.map(|told| (told.addr, told.segment))
}

/// An address and the option that carries it, over this family.
fn named(family: Family, host: u8) -> (SocketAddr, Vec<u8>) {
    let client = original(family, host, 1000 + u16::from(host));
    let kind = match family {
        Family::V4 => 200,
        Family::V6 => 253,
    };
    (client, toa(kind, client))
}

/// A listener of this family that waits for data before it takes a connection.
pub(super) fn deferring(world: &World, family: Family) -> TcpListener {
    let listener = world.listen(family);
    set(&listener, libc::TCP_DEFER_ACCEPT, 30);
    listener
}

/// A client whose SYN is answered, and whose bare ACK with these options a deferring listener then
/// drops.
#[track_caller]
pub(super) fn deferred(mut end: Client, [syn, ack]: [&[u8]; 2]) -> Client {
    end.syn(syn).unwrap();
    end.recv_syn_ack().unwrap();
    dropped(&mut end, ack, "TCPDeferAcceptDrop");
    end
}

/// Sends a bare ACK with these options, which the server drops, as `drops` counts.
#[track_caller]
fn dropped(end: &mut Client, ack: &[u8], drops: &str) {
    let before = netstat("TcpExt", drops);
    end.ack(ack).unwrap();
    assert_eq!(
        netstat("TcpExt", drops),
        before + 1,
        "the ACK was not dropped"
    );
}

/// The kernel drops the bare ACK, and the connection comes of the first data, which carry nothing.
#[test]
fn a_listener_that_defers_accept_keeps_what_the_syn_and_the_dropped_ack_carried() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = deferring(world, family);
            let [(early, in_syn), (late, in_ack)] = [1, 2].map(|host| named(family, host));
            let row = match family {
                Family::V4 => "200_8",
                Family::V6 => "253_20",
            };
            let rows = ["syn_recv_sock_toa", "syn_recv_sock_no_toa"].map(str::to_owned);
            let [with, without] = rows;
            let rows = [with, without, format!("syn_{row}"), format!("ack_{row}")];
            for (syn, ack, answer, counted) in [
                (
                    &in_syn[..],
                    &[][..],
                    Some((early, Segment::Syn)),
                    [1, 0, 1, 0],
                ),
                (&[], &in_ack, Some((late, Segment::Ack)), [1, 0, 0, 1]),
                (&in_syn, &in_ack, Some((late, Segment::Ack)), [1, 0, 1, 1]),
                (&[], &[], None, [0, 1, 0, 0]),
            ] {
                let before = Stats::read();
                let mut end = deferred(world.client(family, &listener), [syn, ack]);
                // Once more, as when the server repeats its SYN-ACK: counted once nevertheless.
                end.ack(ack).unwrap();
                end.data(b"data").unwrap();
                let mut conn = Conn::accepted(end, &listener);
                let difference = Stats::read().since(&before);
                let found = rows.each_ref().map(|row| difference.get(row));
                assert_eq!(found, counted, "{difference:?}");
                assert_eq!(told(&conn.stream), answer);
                conn.server_reads(b"data");
                conn.exchange();
            }
        }
    });
}

/// What `tcp_check_req` alone sees: an ACK that is dropped, and that of a Fast Open connection.
pub(super) fn rare_ways_work(world: &World) {
    for family in Family::ALL {
        let (client, option) = named(family, 7);
        let answer = Some((client, Segment::Ack));
        let listener = deferring(world, family);
        let mut end = deferred(world.client(family, &listener), [&[], &option]);
        end.data(b"data").unwrap();
        assert_eq!(told(&Conn::accepted(end, &listener).stream), answer);

        let (listener, _on) = fast_open(world, family);
        let mut conn = half_open(world.client(family, &listener), &listener, &[]);
        conn.client.ack(&option).unwrap();
        assert_eq!(told(&conn.stream), answer);
    }
    sessions_become(0);
}

/// The data that follow have an option of their own.
#[test]
fn of_a_dropped_ack_and_the_data_behind_it_the_later_counts() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = deferring(world, family);
            let [(_, first), (late, second)] = [1, 2].map(|host| named(family, host));
            let mut end = deferred(world.client(family, &listener), [&[], &first]);
            let before = Stats::read();
            end.data_with(b"data", &second).unwrap();
            let conn = Conn::accepted(end, &listener);
            let row = if family == Family::V4 {
                "ack_200_8"
            } else {
                "ack_253_20"
            };
            let difference = Stats::read().since(&before);
            assert_eq!(difference, [("syn_recv_sock_toa", 1), (row, 1)]);
            assert_eq!(told(&conn.stream), Some((late, Segment::Ack)));
        }
    });
}

/// What one segment leaves out stands by another, as where none is dropped; and each is counted once,
/// in the segment that it came in.
#[test]
fn what_a_dropped_ack_leaves_out_stands() {
    World::run(|world| {
        for family in Family::ALL {
            let (client, named) = named(family, 7);
            let at = original(Family::V4, 9, 443);
            let (vip, vpc) = (toa(202, at), vec![201, 6, 1, 2, 3, 4]);
            let rest = [&vip[..], &vpc].concat();
            let deferring = deferring(world, family);
            let mut full = Full::new(world.listen(family));
            // What the SYN, the dropped ACKs and the data carry, who names the client, and whether
            // client, VIP and VPC id came in the SYN.
            for (syn, acks, behind, by, in_syn) in [
                (
                    &named[..],
                    [&rest[..], &rest],
                    &[][..],
                    Segment::Syn,
                    [true, false, false],
                ),
                (
                    &rest,
                    [&named, &named],
                    &[],
                    Segment::Ack,
                    [false, true, true],
                ),
                (
                    &named,
                    [&vip, &vpc],
                    &[],
                    Segment::Syn,
                    [true, false, false],
                ),
                (
                    &vpc,
                    [&named, &vip],
                    &[],
                    Segment::Ack,
                    [false, false, true],
                ),
                (
                    &named,
                    [&rest, &rest],
                    &vip,
                    Segment::Syn,
                    [true, false, false],
                ),
                (&[], [&rest, &vip], &named, Segment::Ack, [false; 3]),
            ] {
                for overflows in [false, true] {
                    let before = Stats::read();
                    let listener = if overflows {
                        &full.listener
                    } else {
                        &deferring
                    };
                    let mut end = world.client(family, listener);
                    end.syn(syn).unwrap();
                    end.recv_syn_ack().unwrap();
                    if overflows {
                        full.fill(world, family);
                    }
                    for ack in acks {
                        let drops = if overflows {
                            "ListenOverflows"
                        } else {
                            "TCPDeferAcceptDrop"
                        };
                        dropped(&mut end, ack, drops);
                    }
                    if overflows {
                        full.drain();
                    }
                    end.data_with(b"data", behind).unwrap();
                    let listener = if overflows {
                        &full.listener
                    } else {
                        &deferring
                    };
                    let mut conn = Conn::accepted(end, listener);
                    let counted = Stats::read().since(&before);

                    let told = libtoa::original(&conn.stream).unwrap();
                    let told = told.expect("somebody named the client");
                    assert_eq!((told.addr, told.segment), (client, by));
                    let vip = told.vip.map(|vip| (vip.ip().to_canonical(), vip.port()));
                    assert_eq!(vip, Some((at.ip(), at.port())), "in SYN: {in_syn:?}");
                    assert_eq!(told.vpc_id, Some(0x0102_0304));
                    let row = match family {
                        Family::V4 => "200_8",
                        Family::V6 => "253_20",
                    };
                    for (row, in_syn) in [row, "202_8", "201_6"].into_iter().zip(in_syn) {
                        let found = ["syn", "ack"].map(|by| counted.get(&format!("{by}_{row}")));
                        let once = [u64::from(in_syn), u64::from(!in_syn)];
                        assert_eq!(found, once, "{row}: {counted:?}");
                    }
                    assert_eq!(counted.get("syn_recv_sock_toa"), 1, "{counted:?}");
                    conn.server_reads(b"data");
                }
            }
        }
    });
}

/// A listener whose queue is full, once `fill` was called, until its connection is accepted.
struct Full {
    listener: TcpListener,
    filler: Option<Client>,
}

impl Full {
    fn new(listener: TcpListener) -> Self {
        // A queue of none takes one.
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        Self {
            listener,
            filler: None,
        }
    }

    fn fill(&mut self, world: &World, family: Family) {
        let mut filler = world.client(family, &self.listener);
        filler.connect(&[], &[]).unwrap();
        self.filler = Some(filler);
    }

    fn drain(&mut self) {
        let filler = self.filler.take().expect("it was filled");
        drop(Conn::accepted(filler, &self.listener));
    }
}

/// On a listener of its own family, and of both.
#[test]
fn a_full_accept_queue_keeps_what_the_dropped_ack_carried() {
    World::run(|world| {
        for (family, any) in [(Family::V4, false), (Family::V6, false), (Family::V4, true)] {
            let listener = if any {
                TcpListener::bind("[::]:0").unwrap()
            } else {
                world.listen(family)
            };
            let mut full = Full::new(listener);
            let (client, option) = named(family, 7);
            for (options, told_by) in [
                ([&[][..], &option[..]], Some(Segment::Ack)),
                ([&option, &[]], Some(Segment::Syn)),
                ([&[], &[]], None),
            ] {
                let mut end = world.client(family, &full.listener);
                end.syn(options[0]).unwrap();
                end.recv_syn_ack().unwrap();
                full.fill(world, family);
                let before = netstat("TcpExt", "ListenOverflows");
                end.ack(options[1]).unwrap();
                end.data_with(b"data", options[1]).unwrap();
                end.seq = end.seq.wrapping_sub(4);
                assert_eq!(
                    netstat("TcpExt", "ListenOverflows"),
                    before + 2,
                    "nothing was dropped"
                );
                assert_eq!(sessions(), 0);
                full.drain();
                end.data(b"data").unwrap();
                let mut conn = Conn::accepted(end, &full.listener);
                let answer = told(&conn.stream).map(|(addr, by)| (addr.ip().to_canonical(), by));
                assert_eq!(answer, told_by.map(|by| (client.ip(), by)));
                conn.server_reads(b"data");
            }
        }
    });
}

/// An end with an address of the Internet, which is not trusted by default.
fn stranger(world: &World, family: Family, listener: &TcpListener) -> Client {
    let ip = original(family, 66, 0).ip();
    let port = world.fresh_peer(family).port();
    world.client_from(SocketAddr::new(ip, port), listener)
}

/// Who may not speak is refused in each segment as it comes, before anything is kept of it.
#[test]
fn nobody_untrusted_is_believed_in_any_segment() {
    World::run_with("first_data=1", |world| {
        for family in Family::ALL {
            let (_, forged) = named(family, 7);
            let refused = |before: &Stats, what: &str| {
                let counted = Stats::read().since(before);
                assert_eq!(counted.get("untrusted"), 1, "{what}: {counted:?}");
                assert_eq!(sessions(), 0, "{what}");
            };
            let nobody = |conn: &Conn, what: &str| assert_eq!(told(&conn.stream), None, "{what}");

            let listener = world.listen(family);
            for (what, options) in [("SYN", [&forged[..], &[]]), ("ACK", [&[], &forged])] {
                let before = Stats::read();
                let mut end = stranger(world, family, &listener);
                end.connect(options[0], options[1]).unwrap();
                let conn = Conn::accepted(end, &listener);
                refused(&before, what);
                nobody(&conn, what);
            }

            let what = "ACK dropped for want of data";
            let listener = deferring(world, family);
            let before = Stats::read();
            let mut end = deferred(stranger(world, family, &listener), [&[], &forged]);
            refused(&before, what);
            end.data(b"data").unwrap();
            let conn = Conn::accepted(end, &listener);
            refused(&before, what);
            nobody(&conn, what);

            let what = "ACK dropped for want of room";
            let mut full = Full::new(world.listen(family));
            let mut end = stranger(world, family, &full.listener);
            end.syn(&[]).unwrap();
            end.recv_syn_ack().unwrap();
            full.fill(world, family);
            let before = Stats::read();
            dropped(&mut end, &forged, "ListenOverflows");
            refused(&before, what);
            full.drain();
            end.data(b"data").unwrap();
            let conn = Conn::accepted(end, &full.listener);
            refused(&before, what);
            nobody(&conn, what);

            let (listener, _on) = fast_open(world, family);
            for (what, options) in [
                ("SYN of Fast Open", [&forged[..], &[]]),
                ("ACK of Fast Open", [&[], &forged]),
            ] {
                let before = Stats::read();
                let end = stranger(world, family, &listener);
                let mut conn = half_open(end, &listener, options[0]);
                nobody(&conn, what);
                conn.client.ack(options[1]).unwrap();
                refused(&before, what);
                nobody(&conn, what);
            }

            let what = "first data";
            let listener = world.listen(family);
            let mut end = stranger(world, family, &listener);
            end.connect(&[], &[]).unwrap();
            let mut conn = Conn::accepted(end, &listener);
            let before = Stats::read();
            data(&mut conn, &forged);
            refused(&before, what);
            nobody(&conn, what);
        }
    });
}

/// With SYN cookies there is no request to hold an ACK against, so one that is dropped for want of
/// room is not read; and another's address is nowhere.
#[test]
fn with_syn_cookies_and_a_full_accept_queue_the_others_speak() {
    World::run(|world| {
        let _cookies = Sysctl::set("net/ipv4/tcp_syncookies", "2");
        for family in Family::ALL {
            let [(early, in_syn), (late, in_ack)] = [1, 2].map(|host| named(family, host));
            let mut full = Full::new(world.listen(family));
            for (syn, ack, behind, answer) in [
                (&in_syn[..], &[][..], &[][..], Some((early, Segment::Syn))),
                (&[], &in_ack, &[], None),
                (&[], &in_ack, &in_ack, Some((late, Segment::Ack))),
                (&in_syn, &[], &in_ack, Some((late, Segment::Ack))),
                (&[], &[], &[], None),
            ] {
                let cookies = netstat("TcpExt", "SyncookiesRecv");
                let mut end = world.client(family, &full.listener);
                end.syn(syn).unwrap();
                end.recv_syn_ack().unwrap();
                full.fill(world, family);
                dropped(&mut end, ack, "ListenOverflows");
                full.drain();
                end.data_with(b"data", behind).unwrap();
                let mut conn = Conn::accepted(end, &full.listener);
                assert_eq!(told(&conn.stream), answer);
                conn.server_reads(b"data");
                // The filler's, and those of the ACK and the data.
                assert_eq!(netstat("TcpExt", "SyncookiesRecv"), cookies + 3);
            }
        }
    });
}

/// The magic of the Fast Open experiment means a cookie in a SYN alone.
#[test]
fn what_looks_like_a_fast_open_cookie_is_an_address_behind_the_syn() {
    World::run_with("first_data=1", |world| {
        let looks = original(Family::V4, 7, 0xf989);
        let option = toa(254, looks);
        let listener = deferring(world, Family::V4);
        let client = || world.client(Family::V4, &listener);

        let mut end = deferred(client(), [&[], &option]);
        end.data(b"data").unwrap();
        let conn = Conn::accepted(end, &listener);
        assert_eq!(told(&conn.stream), Some((looks, Segment::Ack)));

        let mut end = deferred(client(), [&option, &[]]);
        end.data(b"more").unwrap();
        let mut conn = Conn::accepted(end, &listener);
        assert_eq!(told(&conn.stream), None);
        conn.server_reads(b"more");
        data(&mut conn, &option);
        assert_eq!(told(&conn.stream), Some((looks, Segment::Data)));
    });
}

/// Whoever does not know the numbers of a handshake cannot name its client, while it waits.
#[test]
fn an_ack_with_wrong_numbers_is_not_believed() {
    World::run(|world| {
        for family in Family::ALL {
            let (_, forged) = named(family, 66);
            let deferring = deferring(world, family);
            let mut full = Full::new(world.listen(family));
            for (seq, ack) in [
                (1, 0),
                (u32::MAX, 0),
                (0, 1),
                (0, u32::MAX),
                (5, 5),
                (0, 1 << 31),
            ] {
                let forge = |end: &Client, flags| {
                    let mut segment = end.segment(flags);
                    segment.seq = segment.seq.wrapping_add(seq);
                    segment.ack = segment.ack.wrapping_add(ack);
                    segment.options = forged.clone();
                    end.send(&segment).unwrap();
                };
                let what = format!("{family:?}, {seq} and {ack} off");

                // An ACK ahead of its place, but within the window, with the right acknowledgement, is
                // the kernel's to believe, and makes the connection.
                if (seq, ack) != (1, 0) {
                    let mut end = world.client(family, &deferring);
                    end.syn(&[]).unwrap();
                    end.recv_syn_ack().unwrap();
                    forge(&end, Flags::ACK);
                    end.data(b"data").unwrap();
                    let conn = Conn::accepted(end, &deferring);
                    assert_eq!(told(&conn.stream), None, "deferring: {what}");
                }

                let mut end = world.client(family, &full.listener);
                end.syn(&[]).unwrap();
                end.recv_syn_ack().unwrap();
                full.fill(world, family);
                forge(&end, Flags::ACK);
                // Nor is what is no ACK at all.
                for flags in [Flags::SYN, Flags::SYN | Flags::ACK, Flags::PSH] {
                    if seq == u32::MAX || flags == Flags::PSH {
                        forge(&end, flags);
                    }
                }
                full.drain();
                end.data(b"data").unwrap();
                let conn = Conn::accepted(end, &full.listener);
                assert_eq!(told(&conn.stream), None, "full: {what}");
            }
        }
    });
}

/// Of a SYN that is repeated the first counts, as it does for the other options: it is the one that
/// the server has answered.
#[test]
fn a_syn_repeated_with_another_option_changes_nothing() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            let [(first, option), (_, other)] = [1, 2].map(|host| named(family, host));
            for (syn, again, answer) in [
                (&option[..], &other[..], Some((first, Segment::Syn))),
                (&option, &[], Some((first, Segment::Syn))),
                (&[], &other, None),
            ] {
                let mut end = world.client(family, &listener);
                let mut segment = end.segment(Flags::SYN);
                for options in [syn, again] {
                    segment.options = options.to_vec();
                    end.send(&segment).unwrap();
                }
                end.seq = end.seq.wrapping_add(1);
                end.recv_syn_ack().unwrap();
                end.ack(&[]).unwrap();
                let mut conn = Conn::accepted(end, &listener);
                assert_eq!(told(&conn.stream), answer);
                conn.exchange();
            }
        }
    });
}

/// A listener that takes data with the SYN, and asks for no cookie.
pub(super) fn fast_open(world: &World, family: Family) -> (TcpListener, Sysctl) {
    // For servers, and without a cookie.
    let on = Sysctl::set("net/ipv4/tcp_fastopen", "514");
    let listener = world.listen(family);
    set(&listener, libc::TCP_FASTOPEN, 16);
    (listener, on)
}

/// Sends a SYN with data and these options, and accepts the connection that comes of it.
#[track_caller]
fn half_open(mut end: Client, listener: &TcpListener, options: &[u8]) -> Conn {
    let syn = wire::Segment {
        options: options.to_vec(),
        payload: b"early".to_vec(),
        ..end.segment(Flags::SYN)
    };
    end.send(&syn).unwrap();
    end.seq = end.seq.wrapping_add(syn.span());
    end.recv_syn_ack().expect("the SYN's data are taken");
    let mut conn = Conn::accepted(end, listener);
    conn.server_reads(b"early");
    conn
}

/// The connection stands, and may be asked for, before the client's ACK.
#[test]
fn a_fast_open_server_is_told_of_the_syn_at_once_and_of_the_ack_when_it_comes() {
    World::run(|world| {
        for family in Family::ALL {
            let (listener, _on) = fast_open(world, family);
            let [(early, in_syn), (late, in_ack)] = [1, 2].map(|host| named(family, host));
            let by_syn = Some((early, Segment::Syn));
            let by_ack = Some((late, Segment::Ack));
            for (syn, ack, first, then) in [
                (&in_syn[..], &[][..], by_syn, by_syn),
                (&[], &in_ack, None, by_ack),
                // Who has been told one client is not told another.
                (&in_syn, &in_ack, by_syn, by_syn),
                (&[], &[], None, None),
            ] {
                for (data, answered) in [(&b""[..], false), (b"more", false), (b"", true)] {
                    let before = Stats::read();
                    let mut conn = half_open(world.client(family, &listener), &listener, syn);
                    for _ in 0..2 {
                        assert_eq!(told(&conn.stream), first);
                    }
                    if answered {
                        conn.stream.write_all(b"answer").unwrap();
                        while conn.client.recv().unwrap().payload != b"answer" {}
                    }
                    let mut completes = conn.client.segment(Flags::ACK);
                    completes.options = ack.to_vec();
                    completes.payload = data.to_vec();
                    conn.client.send(&completes).unwrap();
                    conn.client.seq = conn.client.seq.wrapping_add(completes.span());
                    conn.server_reads(data);
                    assert_eq!(told(&conn.stream), then);
                    let difference = Stats::read().since(&before);
                    let [with, without] = ["syn_recv_sock_toa", "syn_recv_sock_no_toa"]
                        .map(|name| difference.get(name));
                    let known = u64::from(then.is_some());
                    assert_eq!([with, without], [known, 1 - known], "{difference:?}");
                    assert_eq!(sessions(), known);
                    if !answered {
                        conn.exchange();
                    }
                    assert_eq!(told(&conn.stream), then);
                    drop(conn);
                    sessions_become(0);
                }
            }
        }
    });
}

#[test]
fn a_fast_open_connection_does_not_believe_an_ack_with_wrong_numbers() {
    World::run(|world| {
        for family in Family::ALL {
            let (listener, _on) = fast_open(world, family);
            let (_, forged) = named(family, 66);
            for (seq, ack) in [(1, 0), (u32::MAX, 0), (0, 1), (0, u32::MAX), (0, 1 << 31)] {
                let conn = half_open(world.client(family, &listener), &listener, &[]);
                let mut segment = conn.client.segment(Flags::ACK);
                segment.seq = segment.seq.wrapping_add(seq);
                segment.ack = segment.ack.wrapping_add(ack);
                segment.options = forged.clone();
                conn.client.send(&segment).unwrap();
                assert_eq!(
                    told(&conn.stream).map(|_| "told"),
                    None,
                    "{seq} and {ack} off"
                );
                assert_eq!(sessions(), 0);
                drop(conn);
            }
        }
    });
}

/// Reset before its ACK, it was never more than a SYN's address that waits.
#[test]
fn a_fast_open_connection_that_dies_early_leaves_nothing_to_the_next() {
    World::run(|world| {
        let (listener, _on) = fast_open(world, Family::V4);
        let (client, option) = named(Family::V4, 1);
        let conn = half_open(world.client(Family::V4, &listener), &listener, &option);
        assert_eq!(told(&conn.stream), Some((client, Segment::Syn)));
        let peer = conn.client.local();
        drop(conn);
        assert_eq!(sessions(), 0);
        let mut end = world.client_from(peer, &listener);
        end.seq = 3_000_000_000;
        end.connect(&[], &[]).unwrap();
        let conn = Conn::accepted(end, &listener);
        assert_eq!(told(&conn.stream), None);
    });
}

/// A socket of the node that connects to `peer`, whom the test plays.
fn outgoing(
    world: &World,
    family: Family,
    peer: SocketAddr,
    fast_open: bool,
) -> (TcpStream, Client) {
    let domain = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let fd = socket(domain, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let local = SockaddrStorage::from(SocketAddr::new(server_ip(family), 0));
    bind(fd.as_raw_fd(), &local).unwrap();
    // SAFETY: The descriptor is open, and given away.
    let stream = unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) };
    let mut end = Client::new(world.link(), peer, stream.local_addr().unwrap());
    end.patience = PATIENCE;
    if fast_open {
        set(&stream, libc::TCP_FASTOPEN_CONNECT, 1);
    }
    let result = connect(stream.as_raw_fd(), &SockaddrStorage::from(peer));
    if fast_open {
        result.unwrap();
        (&stream).write_all(b"early").unwrap();
    } else {
        assert_eq!(result, Err(Errno::EINPROGRESS));
    }
    (stream, end)
}

/// The node is the client, and its peer's options are none of a load balancer's.
#[test]
fn a_fast_open_client_on_the_node_has_none() {
    World::run(|world| {
        for family in Family::ALL {
            // For clients, and without a cookie.
            let _on = Sysctl::set("net/ipv4/tcp_fastopen", "5");
            let peer = world.fresh_peer(family);
            let (stream, mut end) = outgoing(world, family, peer, true);
            let syn = end.recv().unwrap();
            assert_eq!((syn.flags, &syn.payload[..]), (Flags::SYN, &b"early"[..]));
            let (_, option) = named(family, 7);
            let before = Stats::read();
            let mut answer = end.segment(Flags::SYN | Flags::ACK);
            answer.options = option.clone();
            end.send(&answer).unwrap();
            end.seq = end.seq.wrapping_add(1);
            end.recv().unwrap();
            end.data_with(b"data", &option).unwrap();
            assert_eq!(Stats::read().since(&before), []);
            assert_eq!(told(&stream), None);
            assert_eq!(libtoa::client_addr(&stream).unwrap(), peer);
            end.rst().unwrap();
        }
    });
}

/// Neither end listens, so there is no client, whatever the segments carry.
#[test]
fn a_simultaneous_open_has_none() {
    World::run(|world| {
        for family in Family::ALL {
            let peer = world.fresh_peer(family);
            let (stream, mut end) = outgoing(world, family, peer, false);
            let (_, option) = named(family, 7);
            assert_eq!(end.recv().unwrap().flags, Flags::SYN);
            let before = Stats::read();
            end.syn(&option).unwrap();
            let answer = end.recv_syn_ack().unwrap();
            end.ack = answer.seq.wrapping_add(1);
            // Neither before the last segment nor after it.
            assert_eq!(told(&stream), None);
            end.ack(&option).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), peer);
            assert_eq!(told(&stream), None);
            let difference = Stats::read().since(&before);
            assert_eq!(difference, [("getname_toa_empty", 2)]);
            end.rst().unwrap();
        }
    });
}

/// The server's end of the first connection is in TIME_WAIT when the second comes.
#[test]
fn the_tuple_of_a_connection_in_time_wait_is_used_again_without_its_address() {
    World::run(|world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            let peer = world.fresh_peer(family);
            let [(first, in_first), (second, in_second)] = [1, 2].map(|host| named(family, host));
            let mut seq = 1_000;
            for (syn, ack, answer) in [
                (&in_first[..], &[][..], Some((first, Segment::Syn))),
                (&[], &[], None),
                (&[], &in_second, Some((second, Segment::Ack))),
                (&[], &[], None),
                (&in_first, &[], Some((first, Segment::Syn))),
            ] {
                let mut end = world.client_from(peer, &listener);
                end.seq = seq;
                end.connect(syn, ack).unwrap();
                let (stream, from) = accept(&listener);
                assert_eq!(from, peer);
                assert_eq!(told(&stream), answer);
                // The server closes first.
                drop(stream);
                while !end.recv().unwrap().flags.contains(Flags::FIN) {}
                end.fin().unwrap();
                end.recv().unwrap();
                assert!(in_time_wait(peer));
                seq = end.seq.wrapping_add(100_000);
            }
        }
    });
}

/// Whether a connection with this peer is in TIME_WAIT in this namespace.
fn in_time_wait(peer: SocketAddr) -> bool {
    let (file, port) = (if peer.is_ipv4() { "tcp" } else { "tcp6" }, peer.port());
    let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    text.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&format!(":{port:04X}")) && fields[3] == "06"
    })
}

/// Sends data with these options, which the server reads.
#[track_caller]
fn data(conn: &mut Conn, options: &[u8]) {
    conn.client.data_with(b"data", options).unwrap();
    conn.server_reads(b"data");
}

#[test]
fn the_first_three_data_segments_are_read_if_asked_for_and_no_more() {
    for hook in ["", " hook=kprobe"] {
        World::run_with(&format!("first_data=1{hook}"), |world| {
            for family in Family::ALL {
                let listener = world.listen(family);
                let [(client, option), (_, later)] = [1, 2].map(|host| named(family, host));
                let row = if family == Family::V4 {
                    "data_200_8"
                } else {
                    "data_253_20"
                };
                for nth in 1..=4 {
                    let mut conn = world.connect(family, &listener, &[], &[]);
                    let before = Stats::read();
                    for _ in 1..nth {
                        data(&mut conn, &[]);
                        // No data, so not one of them; and not read.
                        conn.client.ack(&later).unwrap();
                    }
                    assert_eq!(Stats::read().since(&before), []);
                    assert_eq!(told(&conn.stream), None);
                    let before = Stats::read();
                    data(&mut conn, &option);
                    data(&mut conn, &later);
                    let difference = Stats::read().since(&before);
                    let answer = told(&conn.stream);
                    if nth <= 3 {
                        assert_eq!(difference, [(row, 1)], "in segment {nth}");
                        assert_eq!(answer, Some((client, Segment::Data)));
                    } else {
                        assert_eq!(difference, [], "in segment {nth}");
                        assert_eq!(answer, None);
                    }
                    conn.exchange();
                }
            }
        });
    }
}

#[test]
fn data_of_a_connection_whose_client_is_known_are_not_read() {
    World::run_with("first_data=1", |world| {
        let listener = world.listen(Family::V4);
        let [(early, option), (_, later)] = [1, 2].map(|host| named(Family::V4, host));
        for (syn, ack, by) in [
            (&option[..], &[][..], Segment::Syn),
            (&[], &option, Segment::Ack),
        ] {
            let mut conn = world.connect(Family::V4, &listener, syn, ack);
            let before = Stats::read();
            data(&mut conn, &later);
            assert_eq!(Stats::read().since(&before), []);
            assert_eq!(told(&conn.stream), Some((early, by)));
        }
    });
}

/// Nor do they use up the three.
#[test]
fn data_with_wrong_numbers_or_a_wrong_checksum_are_not_believed() {
    World::run_with("first_data=1", |world| {
        for family in Family::ALL {
            let listener = world.listen(family);
            let [(client, option), (_, forged)] = [1, 66].map(|host| named(family, host));
            let mut conn = world.connect(family, &listener, &[], &[]);
            let before = Stats::read();
            for (seq, ack) in [(100, 0), (u32::MAX, 0), (0, 1000), (0, 1 << 31)] {
                let mut segment = conn.client.segment(Flags::ACK | Flags::PSH);
                segment.seq = segment.seq.wrapping_add(seq);
                segment.ack = segment.ack.wrapping_add(ack);
                segment.options = forged.clone();
                segment.payload = b"x".to_vec();
                conn.client.send(&segment).unwrap();
                assert_eq!(told(&conn.stream), None, "{seq} and {ack} off");
            }
            // So long that the kernel looks at the checksum late.
            let mut segment = conn.client.segment(Flags::ACK | Flags::PSH);
            segment.options = forged;
            segment.payload = vec![b'x'; 200];
            let mut packet = segment.to_packet().unwrap();
            *packet.last_mut().unwrap() ^= 1;
            world.link().send_packet(&packet).unwrap();
            assert_eq!(told(&conn.stream), None, "with a wrong checksum");
            let difference = Stats::read().since(&before);
            assert_eq!(difference, [("getname_toa_empty", 5)]);

            // More than a hundred, so that what came early does not stick out.
            let long = [b'x'; 104];
            conn.client.data_with(&long, &option).unwrap();
            conn.server_reads(&long);
            assert_eq!(told(&conn.stream), Some((client, Segment::Data)));
        }
    });
}

#[test]
fn the_first_data_of_a_fast_open_connection_and_of_a_deferred_one_are_read() {
    World::run_with("first_data=1", |world| {
        for family in Family::ALL {
            let (client, option) = named(family, 7);
            let answer = Some((client, Segment::Data));
            let (listener, _on) = fast_open(world, family);
            let mut conn = half_open(world.client(family, &listener), &listener, &[]);
            conn.client.ack(&[]).unwrap();
            data(&mut conn, &option);
            assert_eq!(told(&conn.stream), answer);

            let listener = deferring(world, family);
            let mut end = deferred(world.client(family, &listener), [&[], &[]]);
            end.data(b"first").unwrap();
            let mut conn = Conn::accepted(end, &listener);
            conn.server_reads(b"first");
            data(&mut conn, &option);
            assert_eq!(told(&conn.stream), answer);
        }
    });
}

/// The kernel refuses an old ACK, which told nothing, and takes the next, which does: there is nothing
/// to be read from data any more.
#[test]
fn the_data_of_a_fast_open_connection_that_an_ack_named_are_not_read() {
    World::run_with("first_data=1", |world| {
        // Timestamps: the ACK's is older than the SYN's.
        let at = |time: u8| vec![1, 1, 8, 10, 0, 0, 0, time, 0, 0, 0, 0];
        for family in Family::ALL {
            let (listener, _on) = fast_open(world, family);
            let [(client, by_ack), (_, by_data)] = [4, 5].map(|host| named(family, host));
            let mut conn = half_open(world.client(family, &listener), &listener, &at(9));
            conn.client.ack(&at(8)).unwrap();
            assert_eq!(told(&conn.stream), None);
            conn.client.ack(&[at(10), by_ack].concat()).unwrap();
            let first = Some((client, Segment::Ack));
            assert_eq!(told(&conn.stream), first);
            let options = [at(10), by_data].concat();
            conn.client.data_with(b"data", &options).unwrap();
            conn.server_reads(b"data");
            assert_eq!((told(&conn.stream), sessions()), (first, 1));
            conn.client.rst().unwrap();
            drop(conn);
            sessions_become(0);
        }
    });
}

/// A socket gets the memory of one that died before its data came.
#[test]
fn whose_data_are_awaited_is_forgotten_with_the_socket() {
    World::run_with("first_data=1", |world| {
        let (_, option) = named(Family::V4, 66);
        for _ in 0..32 {
            let listener = world.listen(Family::V4);
            drop(world.connect(Family::V4, &listener, &[], &[]));
            drop(listener);
            let peer = world.fresh_peer(Family::V4);
            let (stream, mut end) = outgoing(world, Family::V4, peer, false);
            end.recv().unwrap();
            end.send(&end.segment(Flags::SYN | Flags::ACK)).unwrap();
            end.seq = end.seq.wrapping_add(1);
            end.recv().unwrap();
            let before = Stats::read();
            end.data_with(b"data", &option).unwrap();
            assert_eq!(Stats::read().since(&before), []);
            assert_eq!(told(&stream), None);
            end.rst().unwrap();
        }
    });
}
