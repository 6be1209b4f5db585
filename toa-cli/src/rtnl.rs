// SPDX-License-Identifier: MIT OR Apache-2.0
//! The few rtnetlink requests that a network device needs, so that no `ip`
//! program has to be there.

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

/// How long the kernel, which may run in a slow emulator, may take to make an
/// IPv6 address its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// Switches the device on.
pub(crate) fn up(index: u32) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    request(RouteNetlinkMessage::SetLink(link), 0)
}

/// Gives the device an address, usable at once: without duplicate address
/// detection, for which nobody else is there.
pub(crate) fn add_address(index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    request(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )?;
    if address.is_ipv6() {
        await_local(address)?;
    }
    Ok(())
}

/// Waits until packets to `address` are for this machine.
///
/// The kernel acknowledges an IPv6 address, and lets sockets bind to it, before
/// it has the local route: that one is left to a work queue, detection or not. A
/// packet that comes earlier would be forwarded, which is to say lost.
fn await_local(address: IpAddr) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_local(address)? {
        if Instant::now() >= deadline {
            let what = format!("the kernel had no local route to {address} within {PATIENCE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether the kernel would keep a packet to `address`.
fn is_local(address: IpAddr) -> io::Result<bool> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    match ask(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST)? {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => {
            Ok(route.header.kind == RouteType::Local)
        }
        NetlinkPayload::Error(error) => match Errno::from_raw(-error.raw_code()) {
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => Ok(false),
            _ => Err(error.to_io()),
        },
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "rtnetlink did not answer with a route",
        )),
    }
}

/// Sends what goes to `destination` out of the device.
pub(crate) fn add_route(index: u32, destination: IpAddr, prefix: u8) -> io::Result<()> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if destination.is_ipv4() {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index)];
    if prefix > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
    }
    request(
        RouteNetlinkMessage::NewRoute(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Sends one request and waits for the kernel's acknowledgement, which comes at once.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    match ask(message, NLM_F_REQUEST | NLM_F_ACK | flags)? {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        NetlinkPayload::Error(_) => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "rtnetlink did not acknowledge",
        )),
    }
}

/// Sends one request and returns the kernel's first answer.
fn ask(
    message: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map(|answer| answer.payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
