// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli check`: proves that the node works, by connections that carry TOA.
//!
//! A network namespace of its own, a TUN device, ordinary listeners in it, and a
//! client that writes the segments: nothing of the node's own network is touched,
//! and nothing is left behind.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use ipnet::IpNet;
use nix::errno::Errno;
use serde::Serialize;

use super::guard::Standing;
use crate::cap::{Capabilities, Capability};
use crate::client::{Client, Link, PATIENCE};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::netns;
use crate::render::{self, Findings, Mark, Output, OutputArgs};
use crate::sources::Sources;
use crate::state::ModuleReport;
use crate::tun::{self, Tun, readable};
use crate::wire::ClientOption;

/// The listeners' addresses. Both ends are private ones, as a full-NAT load
/// balancer's are: the module may come to believe no others.
const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 84, 79, 1);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd54, 0x4f41, 0, 0, 0, 0, 0, 1);
/// The load balancer's addresses, which the listeners see as their peer.
const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 84, 79, 2);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd54, 0x4f41, 0, 0, 0, 0, 0, 2);
/// The clients' addresses, which TOA carries; from the ranges for documentation.
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// What is its own in the JSON document.
#[derive(Debug, Serialize)]
struct Body<'a> {
    /// Why no connection could be made at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
    connections: &'a [Connection],
    guard: &'a Standing,
}

#[derive(Debug, Serialize)]
struct Problem<'a> {
    what: &'a str,
    next: Option<&'a str>,
}

/// One connection and how it came out.
#[derive(Clone, Debug, Serialize)]
struct Connection {
    mark: Mark,
    family: &'static str,
    /// What the client wrote into the option, and into which segment.
    sent: Carried,
    /// What libtoa says on the accepted socket; null where it said nothing.
    got: Option<Carried>,
    /// Why it was skipped or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// An address on its way through an option; all null where there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Carried {
    original: Option<SocketAddr>,
    carried_by: Option<String>,
    kind: Option<u8>,
}

/// What one connection shall carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Syn,
    Ack,
    Nothing,
}

impl Carrier {
    const ALL: [Self; 3] = [Self::Syn, Self::Ack, Self::Nothing];

    /// As libtoa names the segment.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Syn => Some("syn"),
            Self::Ack => Some("ack"),
            Self::Nothing => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Syn => "TOA in the SYN",
            Self::Ack => "TOA in the ACK",
            Self::Nothing => "without TOA",
        }
    }
}

/// An address family's side of the check.
#[derive(Clone, Copy, Debug)]
struct Family {
    name: &'static str,
    server: IpAddr,
    prefix: u8,
    peer: IpAddr,
    client: IpAddr,
    /// What names a client of this family: `None` where nothing in the set of layouts in force does.
    option: Option<ClientOption>,
}

/// With the options of Tencent CLB, where the module does not say which it reads.
const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        server: IpAddr::V4(SERVER_V4),
        prefix: 24,
        peer: IpAddr::V4(PEER_V4),
        client: IpAddr::V4(CLIENT_V4),
        option: Some(ClientOption::plain(200, false)),
    },
    Family {
        name: "IPv6",
        server: IpAddr::V6(SERVER_V6),
        prefix: 64,
        peer: IpAddr::V6(PEER_V6),
        client: IpAddr::V6(CLIENT_V6),
        option: Some(ClientOption::plain(253, true)),
    },
];

/// The families with options out of the set that is in force.
fn families(layouts: &[String]) -> [Family; 2] {
    let options: Vec<ClientOption> = layouts
        .iter()
        .filter_map(|entry| ClientOption::parse(entry))
        .collect();
    FAMILIES.map(|family| {
        let mut fitting = options.iter().copied();
        let found = fitting.find(|option| option.is_v6() == family.client.is_ipv6());
        let option = if layouts.is_empty() {
            family.option
        } else {
            found
        };
        Family { option, ..family }
    })
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says why no connection could be made at all.
pub fn run(host: &Host, args: OutputArgs) -> Result<Exit, Failure> {
    let outcome = ready(host).and_then(|report| {
        eprintln!("toa-cli: making connections in a network namespace of their own");
        let trusted = report.trusted.and_then(|list| list.parse().ok());
        connect_all(host, families(&report.layouts), trusted.as_ref())
    });
    let connections = outcome.as_deref().unwrap_or_default();
    let mut findings = findings(connections);
    let guard = Standing::of_node(host);
    guard.judge(&mut findings, Mark::Warning);
    let exit = outcome
        .as_ref()
        .map_or_else(|failure| failure.exit, |_| findings.exit());
    match args.output {
        Output::Json => {
            let body = Body {
                error: outcome.as_ref().err().map(|failure| Problem {
                    what: &failure.what,
                    next: failure.next.as_deref(),
                }),
                connections,
                guard: &guard,
            };
            super::print(&render::json("check", exit, &body))?;
        }
        Output::Text if outcome.is_ok() => {
            super::print(&(findings.text() + &render::verdict("check", exit)))?;
        }
        Output::Text => {}
    }
    outcome.map(|_| exit)
}

/// Whether there is a module to check, and the means to do it; what it says of itself.
fn ready(host: &Host) -> Result<ModuleReport, Failure> {
    let loaded = super::require_loaded(host)?;
    if loaded.abi != Some(libtoa::ABI) {
        let abi = loaded
            .abi
            .map_or_else(|| "unknown".to_owned(), |abi| abi.to_string());
        return Err(Failure::new(
            Exit::Unsupported,
            format!("the module's ABI is {abi}, and libtoa's is {}", libtoa::ABI),
        )
        .next("load the module of this toa-cli's release"));
    }
    if let Some(caps) = Capabilities::read(host) {
        capable(caps)?;
    }
    Ok(loaded.report.unwrap_or_default())
}

fn capable(caps: Capabilities) -> Result<(), Failure> {
    let missing: Vec<&str> = [Capability::SysAdmin, Capability::NetAdmin]
        .into_iter()
        .filter(|&capability| !caps.here(capability))
        .map(Capability::name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Permission,
        format!(
            "{} missing: the check makes a network namespace (CAP_SYS_ADMIN) and a TUN device (CAP_NET_ADMIN)",
            missing.join(" and ") + if missing.len() == 1 { " is" } else { " are" }
        ),
    )
    .next("run as root, or give the container these capabilities; the node itself may be healthy"))
}

/// Makes every connection.
fn connect_all(
    host: &Host,
    families: [Family; 2],
    trusted: Option<&Sources>,
) -> Result<Vec<Connection>, Failure> {
    netns::in_new(|| -> Result<Vec<Connection>, Failure> {
        let tun = Tun::new().map_err(no_tun)?;
        let mut servers = Vec::new();
        for mut family in families {
            let server = match believed(family, trusted) {
                Ok(peer) => {
                    family.peer = peer;
                    serve(host, &tun, family)?
                }
                Err(why) => Err(why),
            };
            servers.push((family, server));
        }
        let link = Link::new(tun);
        let mut connections = Vec::new();
        for (family, server) in &servers {
            for carrier in Carrier::ALL {
                connections.push(match server {
                    Ok(server) => Attempt { family: *family, carrier }.run(&link, server),
                    Err(why) => Attempt { family: *family, carrier }.skipped(why),
                });
            }
        }
        Ok(connections)
    })
    .map_err(|errno| match errno {
        Errno::EPERM => Failure::new(
            Exit::Permission,
            "making a network namespace was refused, though CAP_SYS_ADMIN is there",
        )
        .next("a seccomp profile, AppArmor or SELinux forbids it: relax it, or run on the node itself"),
        Errno::EINVAL => Failure::new(Exit::Unsupported, "this kernel has no network namespaces")
            .next("use a kernel with CONFIG_NET_NS"),
        Errno::ENOSPC => Failure::new(Exit::Unhealthy, "no more network namespaces are allowed")
            .next("raise user.max_net_namespaces"),
        other => Failure::new(
            Exit::Unhealthy,
            format!("a network namespace could not be made: {}", other.desc()),
        ),
    })?
}

fn no_tun(error: tun::Error) -> Failure {
    let what = format!("the check needs a TUN device: {error}");
    match error {
        tun::Error::NoDriver => Failure::new(Exit::Unsupported, what)
            .next("modprobe tun; in a container, give it the device file /dev/net/tun as well"),
        tun::Error::Refused(..) => Failure::new(Exit::Permission, what).next(
            "CAP_NET_ADMIN, and in a container a device rule for /dev/net/tun (c 10:200 rw), are needed",
        ),
        tun::Error::Os(..) => Failure::new(Exit::Unhealthy, what),
    }
}

/// The address to connect from: the usual one, or another of the trusted sources where the module
/// would not believe that; or why there is none.
fn believed(family: Family, trusted: Option<&Sources>) -> Result<IpAddr, String> {
    let Some(trusted) = trusted.filter(|trusted| !trusted.contains(family.peer)) else {
        return Ok(family.peer);
    };
    // On the wire only what may be on one.
    let unusual = |addr: &IpAddr| match addr {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_multicast() || v4.is_link_local() || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local(),
    };
    let sources = trusted.prefixes().iter().filter_map(host_of);
    sources
        .filter(|addr| addr.is_ipv4() == family.peer.is_ipv4())
        .find(|addr| !unusual(addr))
        .ok_or_else(|| {
            format!(
                "no {} source is trusted that could be on a wire",
                family.name
            )
        })
}

/// An address of the prefix that a host can have: its only one, or the one behind the first. None
/// where it is every address of its family.
fn host_of(prefix: &IpNet) -> Option<IpAddr> {
    match prefix {
        whole if whole.prefix_len() == 0 => None,
        IpNet::V4(v4) => v4.hosts().next().map(IpAddr::from),
        IpNet::V6(v6) => v6.hosts().take(2).last().map(IpAddr::from),
    }
}

/// A listener of this family, or why this node has none.
fn serve(host: &Host, tun: &Tun, family: Family) -> Result<Result<TcpListener, String>, Failure> {
    if family.server.is_ipv6() && !host.has("proc/sys/net/ipv6") {
        return Ok(Err("this kernel has IPv6 disabled".to_owned()));
    }
    match tun.add_address(family.server, family.prefix) {
        Ok(()) => {}
        Err(error) if family.server.is_ipv6() && means_no_ipv6(&error) => {
            return Ok(Err(format!("IPv6 is disabled on new devices ({error})")));
        }
        Err(error) => {
            return Err(Failure::new(
                Exit::Unhealthy,
                format!(
                    "the TUN device cannot be given the address {}: {error}",
                    family.server
                ),
            ));
        }
    }
    let whole = if family.peer.is_ipv4() { 32 } else { 128 };
    tun.add_route(family.peer, whole).map_err(|error| {
        let what = format!("no route to {} can be made: {error}", family.peer);
        Failure::new(Exit::Unhealthy, what)
    })?;
    let listener = TcpListener::bind((family.server, 0)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map(Ok).map_err(|error| {
        Failure::new(
            Exit::Unhealthy,
            format!("cannot listen on {}: {error}", family.server),
        )
    })
}

/// `ipv6.disable=1`, or `disable_ipv6` set for new devices.
fn means_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EACCES | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
    )
}

/// One connection to make.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    family: Family,
    carrier: Carrier,
}

impl Attempt {
    /// A port that no other connection of the check uses, so that no answer can
    /// be another connection's.
    fn port(self, base: u16) -> u16 {
        base + self.carrier as u16 + if self.family.server.is_ipv6() { 10 } else { 0 }
    }

    /// What libtoa shall say.
    fn sent(self) -> Carried {
        let Some(word) = self.carrier.word() else {
            return Carried::default();
        };
        let client = |option: ClientOption| {
            let port = if option.has_port() {
                self.port(51_800)
            } else {
                0
            };
            SocketAddr::new(self.family.client, port)
        };
        Carried {
            original: self.family.option.map(client),
            carried_by: Some(word.to_owned()),
            kind: self.family.option.map(|option| option.kind),
        }
    }

    fn skipped(self, why: &str) -> Connection {
        Connection {
            mark: Mark::Skipped,
            family: self.family.name,
            sent: self.sent(),
            got: None,
            reason: Some(why.to_owned()),
        }
    }

    fn run(self, link: &Link, server: &TcpListener) -> Connection {
        if self.family.option.is_none() && self.carrier != Carrier::Nothing {
            let why = format!(
                "none of the options that are read names an {} client",
                self.family.name
            );
            return self.skipped(&why);
        }
        let sent = self.sent();
        let (mark, got, reason) = match self.connect(link, server) {
            Ok(got) if got == sent => (Mark::Good, Some(got), None),
            Ok(got) => (Mark::Failed, Some(got), None),
            Err(why) => (Mark::Failed, None, Some(why)),
        };
        Connection {
            mark,
            family: self.family.name,
            sent,
            got,
            reason,
        }
    }

    /// Connects and asks libtoa on the accepted socket.
    fn connect(self, link: &Link, server: &TcpListener) -> Result<Carried, String> {
        let option = match (self.sent().original, self.family.option) {
            (Some(client), Some(option)) => option.bytes(client),
            _ => Vec::new(),
        };
        let (syn, ack): (&[u8], &[u8]) = match self.carrier {
            Carrier::Syn => (&option, &[]),
            Carrier::Ack => (&[], &option),
            Carrier::Nothing => (&[], &[]),
        };
        let local = SocketAddr::new(self.family.peer, self.port(40_000));
        let remote = server.local_addr().map_err(|error| error.to_string())?;
        let mut client = Client::new(link, local, remote);
        client
            .connect(syn, ack)
            .map_err(|error| format!("the handshake did not come about: {error}"))?;
        let (accepted, peer) =
            accept(server).map_err(|error| format!("no connection was accepted: {error}"))?;
        if peer != local {
            return Err(format!(
                "another connection was accepted, from {peer} and not {local}"
            ));
        }
        let answer = libtoa::original(&accepted);
        // The reset spares the namespace a lingering socket; its end needs no answer.
        let _ = client.rst();
        match answer {
            Ok(None) => Ok(Carried::default()),
            Ok(Some(original)) => Ok(Carried {
                original: Some(original.addr),
                carried_by: Some(original.segment.to_string()),
                kind: Some(original.kind),
            }),
            Err(error) => Err(format!("libtoa: {error}")),
        }
    }
}

fn accept(server: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match server.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        if !readable(server, deadline)? {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("none within {PATIENCE:?}"),
            ));
        }
    }
}

impl Carried {
    fn describe(&self) -> String {
        match (&self.original, &self.carried_by, self.kind) {
            (Some(original), Some(segment), Some(kind)) => {
                format!("{original}, carried by {segment}, kind {kind}")
            }
            _ => "no address".to_owned(),
        }
    }
}

/// A line per connection.
fn findings(connections: &[Connection]) -> Findings {
    let mut findings = Findings::default();
    for connection in connections {
        let Connection {
            mark,
            family,
            sent,
            got,
            reason,
        } = connection;
        let carrier = Carrier::ALL
            .into_iter()
            .find(|carrier| carrier.word() == sent.carried_by.as_deref())
            .unwrap_or(Carrier::Nothing);
        let title = format!("{family}, {}", carrier.title());
        match (mark, got, reason) {
            (Mark::Skipped, _, reason) => {
                let why = reason.as_deref().unwrap_or("no reason");
                findings.add("connections", *mark, format!("{title}: skipped: {why}"));
            }
            (_, _, Some(why)) => findings.advise(
                "connections",
                *mark,
                format!("{title}: {why}"),
                "toa-cli status; where that is good, the node's security policy may forbid the traffic",
            ),
            (Mark::Good, _, None) => {
                findings.add("connections", *mark, format!("{title}: {}", sent.describe()));
            }
            (_, got, None) => {
                let got = got.clone().unwrap_or_default();
                let hint = if got == Carried::default() {
                    "toa-cli status: look for missed calls, and for ftrace or kprobes switched off"
                } else {
                    "this is a defect of the module: please report it, with `toa-cli check -o json` and `toa-cli status -o json`"
                };
                findings.advise(
                    "connections",
                    *mark,
                    format!("{title}: sent {}; got {}", sent.describe(), got.describe()),
                    hint,
                );
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(family: usize, carrier: Carrier) -> Attempt {
        Attempt {
            family: FAMILIES[family],
            carrier,
        }
    }

    fn outcome(attempt: Attempt, got: Carried) -> Connection {
        let sent = attempt.sent();
        let mark = if got == sent {
            Mark::Good
        } else {
            Mark::Failed
        };
        Connection {
            mark,
            family: attempt.family.name,
            sent,
            got: Some(got),
            reason: None,
        }
    }

    #[test]
    fn the_peer_is_one_that_is_believed() {
        let [v4, v6] = FAMILIES;
        let peer = |family, list: &str| believed(family, Some(&list.parse().unwrap()));
        let ip = |text: &str| Ok(text.parse::<IpAddr>().unwrap());
        assert_eq!(believed(v4, None), Ok(v4.peer));
        assert_eq!(peer(v4, "192.0.2.0/24,10.0.0.0/8"), Ok(v4.peer));
        assert_eq!(peer(v4, "any"), Ok(v4.peer));
        assert_eq!(peer(v4, "127.0.0.0/8,192.0.2.0/24"), ip("192.0.2.1"));
        assert_eq!(peer(v4, "203.0.113.9"), ip("203.0.113.9"));
        assert_eq!(peer(v6, "203.0.113.9,::1,2001:db8::/32"), ip("2001:db8::1"));
        assert_eq!(peer(v6, "2001:db8::9"), ip("2001:db8::9"));
        assert!(peer(v6, "10.0.0.0/8,fe80::/10").is_err());
        assert!(peer(v4, "none").is_err());
    }

    #[test]
    fn every_connection_has_ports_of_its_own() {
        let mut ports: Vec<u16> = (0..2)
            .flat_map(|family| Carrier::ALL.map(|carrier| attempt(family, carrier).port(0)))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn options_are_taken_from_the_set_in_force() {
        let of = |entries: &[&str]| {
            let layouts: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
            families(&layouts).map(|family| family.option)
        };
        let [v4, v6] = [
            ClientOption::plain(200, false),
            ClientOption::plain(253, true),
        ];
        assert_eq!(of(&[]), [Some(v4), Some(v6)]);
        assert_eq!(
            of(&["202/8=vip-v4", "254/20=client-v6", "254/8=client-v4"]),
            [
                Some(ClientOption::plain(254, false)),
                Some(ClientOption::plain(254, true))
            ]
        );
        assert_eq!(of(&["200/8=client-v4"]), [Some(v4), None]);
        assert_eq!(of(&["200/8=of-the-future"]), [None, None]);

        let portless = ClientOption::parse("28/7=client-v4-noport");
        let mut attempt = attempt(0, Carrier::Syn);
        attempt.family.option = portless;
        let sent = attempt.sent();
        assert_eq!(sent.original, Some(SocketAddr::new(CLIENT_V4.into(), 0)));
        assert_eq!(sent.kind, Some(28));
    }

    #[test]
    fn lines_say_what_was_sent_and_what_came() {
        let good = attempt(0, Carrier::Syn);
        let lost = attempt(1, Carrier::Ack);
        let plain = attempt(1, Carrier::Nothing);
        let findings = findings(&[
            outcome(good, good.sent()),
            outcome(lost, Carried::default()),
            outcome(plain, Carried::default()),
            plain.skipped("this kernel has IPv6 disabled"),
        ]);
        let text = anstream::adapter::strip_str(&findings.text()).to_string();
        for line in [
            "√ IPv4, TOA in the SYN: 203.0.113.7:51800, carried by syn, kind 200\n",
            "× IPv6, TOA in the ACK: sent [2001:db8::7]:51811, carried by ack, kind 253; got no address\n",
            "√ IPv6, without TOA: no address\n",
            "- IPv6, without TOA: skipped: this kernel has IPv6 disabled\n",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert_eq!(findings.exit(), Exit::Unhealthy);
    }

    #[test]
    fn an_address_where_none_was_sent_is_a_defect() {
        let plain = attempt(0, Carrier::Nothing);
        let findings = findings(&[outcome(plain, attempt(0, Carrier::Syn).sent())]);
        assert_eq!(findings.exit(), Exit::Unhealthy);
        assert!(findings.text().contains("defect"));
    }

    #[test]
    fn missing_means_are_no_ill_health() {
        assert_eq!(no_tun(tun::Error::NoDriver).exit, Exit::Unsupported);
        let refused = no_tun(tun::Error::Refused("making a TUN device", Errno::EPERM));
        assert_eq!(refused.exit, Exit::Permission);
        assert!(refused.next.unwrap().contains("CAP_NET_ADMIN"));
    }
}
