// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client, hop and server's side, put together.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};

use crate::command::{command, run, run_with};
use crate::hop::Hop;
use crate::netns::{Namespace, in_ns};
use crate::segment::Plan;
use crate::tun;

/// What the topology is made of, for kernels that do not load a module by themselves when it is
/// first used.
const MODULES: &[&str] = &[
    "tun",
    "veth",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
];

/// The clients' device takes no larger packets than this many bytes, so that a segment still
/// fits the server's side (1500) with a full set of options added to it.
const CLIENT_MTU: u16 = 1460;

/// How many packets may wait for the hop: a thousand clients that start at once lose none.
const QUEUE: u16 = 10_000;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// Where the server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerSide {
    /// In the namespace that this process runs in, as on a worker node.
    #[default]
    Node,
    /// In a namespace of its own, as a pod does.
    Own,
}

/// What a [`Topology`] is to be; made by [`Topology::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    net: u8,
    server_side: ServerSide,
}

impl Builder {
    /// The number N in the server's side's addresses, 10.0.N.0/24 and fd00:0:0:N::/64 (N is
    /// written in hexadecimal there): topologies that share a server's side need different ones.
    /// It is 0 unless said otherwise.
    #[must_use]
    pub fn net(mut self, net: u8) -> Self {
        self.net = net;
        self
    }

    /// Where the server runs.
    #[must_use]
    pub fn server_side(mut self, server_side: ServerSide) -> Self {
        self.server_side = server_side;
        self
    }

    /// Makes it all; this takes root.
    ///
    /// # Errors
    ///
    /// Whatever could not be made; what had been made by then is removed again.
    pub fn build(self) -> Result<Topology> {
        // A topology's devices are called toa-NAME, in 15 bytes at most.
        ensure!(
            (1..=11).contains(&self.name.len())
                && self
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{:?} is no name for a topology: take 1 to 11 letters, digits and hyphens",
            self.name
        );
        // Kernels have these built in, load them when they are used, or fail later and say why.
        let _ = command("modprobe")
            .args(["-a", "-q"])
            .args(MODULES)
            .output();

        let mut guard = Guard::default();
        let client = guard.namespace(&format!("toa-{}-client", self.name))?;
        let hop_ns = guard.namespace(&format!("toa-{}-hop", self.name))?;
        let server = match self.server_side {
            ServerSide::Node => Namespace::Current,
            ServerSide::Own => guard.namespace(&format!("toa-{}-server", self.name))?,
        };
        let device = format!("toa-{}", self.name);
        let mut topology = Topology {
            client,
            hop_ns,
            server,
            net: self.net,
            hop: None,
            guard,
        };
        topology.client_side()?;
        topology.server_side(&device)?;
        topology.nat()?;
        Ok(topology)
    }
}

/// Clients, a full-NAT hop that inserts TOA, and a server's side. Dropping it removes it all.
///
/// Clients have 203.0.113.7 and 2001:db8::7, and may bind to any address of 198.18.0.0/15 and
/// 2001:db8:7::/48 as well. They connect to a [virtual address](Self::vip), any port; the server
/// gets the connection on [its own](Self::server_ip), same port, from [the hop's](Self::hop_ip).
#[derive(Debug)]
pub struct Topology {
    client: Namespace,
    hop_ns: Namespace,
    server: Namespace,
    net: u8,
    /// Stopped before `guard` removes the namespaces.
    hop: Option<Hop>,
    guard: Guard,
}

impl Topology {
    /// A topology called `name`, of which the names of its namespaces and devices are made.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            net: 0,
            server_side: ServerSide::default(),
        }
    }

    /// The clients' namespace.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The namespace in which servers are to listen.
    #[must_use]
    pub fn server(&self) -> &Namespace {
        &self.server
    }

    /// The namespace in which NAT is done, as a node does it for its pods.
    #[must_use]
    pub fn hop_namespace(&self) -> &Namespace {
        &self.hop_ns
    }

    /// The hop, to change its plan and to read its counts.
    ///
    /// # Panics
    ///
    /// Never: a topology that was built has one.
    #[must_use]
    pub fn hop(&self) -> &Hop {
        self.hop
            .as_ref()
            .expect("a topology that was built has a hop")
    }

    /// Changes what the hop inserts, from the next packet on. Nothing is, at first.
    pub fn set_plan(&self, plan: Plan) {
        self.hop().set_plan(plan);
    }

    /// The clients' usual address.
    #[must_use]
    pub fn client_ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, 7).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
        }
    }

    /// The virtual address that clients connect to.
    #[must_use]
    pub fn vip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(198, 51, 100, 10).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10).into(),
        }
    }

    /// The hop's address on the server's side: the peer that the server sees.
    #[must_use]
    pub fn hop_ip(&self, family: Family) -> IpAddr {
        self.server_net(family, 2)
    }

    /// The server's address.
    #[must_use]
    pub fn server_ip(&self, family: Family) -> IpAddr {
        self.server_net(family, 1)
    }

    /// Runs curl in the clients' namespace against a port of the virtual address, and returns
    /// the reply's body with ` client=ADDRESS:PORT` behind it: the address that curl itself had.
    /// `args` are further arguments, such as `--interface 198.18.0.1`.
    ///
    /// # Errors
    ///
    /// What curl says.
    pub fn curl(&self, family: Family, port: u16, args: &[&str]) -> Result<String> {
        let url = format!("http://{}/", SocketAddr::new(self.vip(family), port));
        let client = match family {
            Family::V4 => " client=%{local_ip}:%{local_port}\n",
            Family::V6 => " client=[%{local_ip}]:%{local_port}\n",
        };
        // No configuration file, no proxy: straight to the virtual address. The guests are slow,
        // so the time-out only serves to end a run that hangs.
        let fixed = [
            "curl",
            "-q",
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "180",
            "-w",
            client,
            &url,
        ];
        let reply = run_with(
            &self.client,
            fixed.into_iter().chain(args.iter().copied()),
            "",
        )?;
        Ok(reply.trim_end_matches('\n').to_owned())
    }

    fn server_net(&self, family: Family, host: u8) -> IpAddr {
        let net = self.net;
        match family {
            Family::V4 => Ipv4Addr::new(10, 0, net, host).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, net.into(), 0, 0, 0, host.into()).into(),
        }
    }

    fn client_side(&mut self) -> Result<()> {
        let (client, hop) = (&self.client, &self.hop_ns);
        let wire = (tun::create(client, "eth0")?, tun::create(hop, "client0")?);
        // The addresses of a whole block are local, so that clients may bind to any of them;
        // IPv6 wants to be told so again for bind().
        sysctl(client, "net/ipv6/ip_nonlocal_bind", "1")?;
        let [v4, v6] = Family::ALL.map(|family| self.client_ip(family));
        for line in [
            &format!("ip link set eth0 mtu {CLIENT_MTU} txqueuelen {QUEUE} up"),
            &format!("ip addr add {v4}/24 dev eth0"),
            &format!("ip addr add {v6}/64 dev eth0 nodad"),
            "ip route add default dev eth0",
            "ip -6 route add default dev eth0",
            "ip route add local 198.18.0.0/15 dev lo",
            "ip -6 route add local 2001:db8:7::/48 dev lo",
        ] {
            run(client, line)?;
        }
        // Every client there may be is behind this device.
        for line in [
            &format!("ip link set client0 txqueuelen {QUEUE} up"),
            "ip route add default dev client0",
            "ip -6 route add default dev client0",
        ] {
            run(hop, line)?;
        }
        self.hop = Some(Hop::start(wire.0, wire.1)?);
        Ok(())
    }

    fn server_side(&mut self, device: &str) -> Result<()> {
        let (hop, server) = (&self.hop_ns, &self.server);
        run(
            server,
            &format!("ip link add {device} type veth peer name server0"),
        )?;
        self.guard.device = Some((server.clone(), device.to_owned()));
        let Namespace::Named(name) = hop else {
            unreachable!("the hop's namespace has a name")
        };
        run(server, &format!("ip link set server0 netns {name}"))?;
        for (ns, device, host) in [(server, device, 1), (hop, "server0", 2)] {
            let [v4, v6] = Family::ALL.map(|family| self.server_net(family, host));
            run(ns, &format!("ip addr add {v4}/24 dev {device}"))?;
            run(ns, &format!("ip link set {device} up"))?;
            // Without duplicate address detection, which would keep it from use for a second.
            run(ns, &format!("ip addr add {v6}/64 dev {device} nodad"))?;
        }
        Ok(())
    }

    fn nat(&self) -> Result<()> {
        sysctl(&self.hop_ns, "net/ipv4/ip_forward", "1")?;
        sysctl(&self.hop_ns, "net/ipv6/conf/all/forwarding", "1")?;
        let [vip4, vip6] = Family::ALL.map(|family| self.vip(family));
        let [server4, server6] = Family::ALL.map(|family| self.server_ip(family));
        // As kube-proxy does it: DNAT to the endpoint, then MASQUERADE --random-fully.
        let rules = format!(
            "table inet full_nat {{
                chain prerouting {{
                    type nat hook prerouting priority -100; policy accept;
                    ip daddr {vip4} meta l4proto tcp dnat ip to {server4}
                    ip6 daddr {vip6} meta l4proto tcp dnat ip6 to {server6}
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100; policy accept;
                    oifname server0 meta l4proto tcp masquerade fully-random
                }}
            }}"
        );
        run_with(&self.hop_ns, ["nft", "-f", "-"], &rules)?;
        Ok(())
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // Its TUN devices hold the namespaces; `guard` is dropped next and removes them.
        self.hop = None;
    }
}

/// What is to be removed in the end, also when building stops half-way.
#[derive(Debug, Default)]
struct Guard {
    namespaces: Vec<Namespace>,
    device: Option<(Namespace, String)>,
}

impl Guard {
    fn namespace(&mut self, name: &str) -> Result<Namespace> {
        let ns = Namespace::create(name)?;
        self.namespaces.push(ns.clone());
        Ok(ns)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut lines = Vec::new();
        // A namespace takes its devices along, but only some time later: remove this one now, so
        // that its name is free and its addresses are gone when we return.
        if let Some((ns, device)) = self.device.take() {
            lines.push((ns, format!("ip link del {device}")));
        }
        for ns in self.namespaces.drain(..) {
            if let Namespace::Named(name) = ns {
                lines.push((Namespace::Current, format!("ip netns del {name}")));
            }
        }
        for (ns, line) in lines {
            if let Err(error) = run(&ns, &line) {
                eprintln!("left behind: {error:#}");
            }
        }
    }
}

/// Writes a setting, named by its path below /proc/sys, in a namespace.
fn sysctl(ns: &Namespace, name: &str, value: &str) -> Result<()> {
    in_ns(ns, || fs::write(format!("/proc/sys/{name}"), value))?
        .with_context(|| format!("cannot set {name} to {value} in {ns}"))
}
