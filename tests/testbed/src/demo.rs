// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo: one connection per line on standard output, all else on standard error.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use toa_testbed::{Carrier, Family, Kinds, Plan, Topology, command};

const PORT: u16 = 8080;
const KINDS: Kinds = Kinds { v4: 200, v6: 253 };
/// An emulated machine is slow; this only ends a run that hangs.
const SERVER_START: Duration = Duration::from_secs(120);

/// A connection to be made, and what the server must say of it.
struct Case {
    title: &'static str,
    family: Family,
    carrier: Carrier,
    expect: Expect,
}

#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The client's own address, from this segment and an option of this kind.
    Client { carried_by: &'static str, kind: u8 },
    /// That there was no TOA.
    Nothing,
    /// That no module is loaded.
    Unavailable,
}

const BEFORE: Case = Case {
    title: "IPv4, TOA in the ACK, no module loaded",
    family: Family::V4,
    carrier: Carrier::Ack,
    expect: Expect::Unavailable,
};

const CASES: [Case; 5] = [
    Case {
        title: "IPv4, TOA in the ACK",
        family: Family::V4,
        carrier: Carrier::Ack,
        expect: Expect::Client {
            carried_by: "ack",
            kind: KINDS.v4,
        },
    },
    Case {
        title: "IPv4, TOA in the SYN",
        family: Family::V4,
        carrier: Carrier::Syn,
        expect: Expect::Client {
            carried_by: "syn",
            kind: KINDS.v4,
        },
    },
    Case {
        title: "IPv6, TOA in the ACK",
        family: Family::V6,
        carrier: Carrier::Ack,
        expect: Expect::Client {
            carried_by: "ack",
            kind: KINDS.v6,
        },
    },
    Case {
        title: "IPv6, TOA in the SYN",
        family: Family::V6,
        carrier: Carrier::Syn,
        expect: Expect::Client {
            carried_by: "syn",
            kind: KINDS.v6,
        },
    },
    Case {
        title: "IPv4, no TOA",
        family: Family::V4,
        carrier: Carrier::None,
        expect: Expect::Nothing,
    },
];

/// Runs the demo; `false` when a connection was not told of correctly.
pub(crate) fn run() -> Result<bool> {
    let mut steps = Steps {
        start: Instant::now(),
        done: 0,
    };
    let module = env::var_os("TOA_KO").context("set TOA_KO to the path of toa.ko")?;
    ensure!(
        !Path::new("/sys/module/toa").exists(),
        "a module named toa is loaded already, and the demo begins without: unload it first \
         (`toa-cli unload`), or boot the node with `scripts/vm --no-load`"
    );

    steps.next("client, full-NAT hop and server's side, each with its addresses");
    let topology = Topology::builder("demo").build()?;

    steps.next("an ordinary server that links libtoa");
    let _server =
        Server::start(Family::ALL.map(|family| SocketAddr::new(topology.server_ip(family), PORT)))?;

    steps.next("a request before the module is there");
    ensure!(
        connection(&topology, &BEFORE),
        "the answer before loading the module was wrong"
    );

    steps.next("toa-cli load");
    toa_cli(command("toa-cli").arg("load").arg("--module").arg(module))?;

    let mut correct = 0;
    for case in &CASES {
        steps.next(case.title);
        correct += usize::from(connection(&topology, case));
    }

    steps.next("toa-cli status");
    let status = toa_cli(command("toa-cli").arg("status"));
    if let Err(error) = &status {
        eprintln!("demo: {error:#}");
    }
    println!("{correct} of {} correct", CASES.len());
    Ok(correct == CASES.len() && status.is_ok())
}

/// Numbered steps with the time since the first.
struct Steps {
    start: Instant,
    done: usize,
}

impl Steps {
    fn next(&mut self, title: &str) {
        // The set-up, the server, the first request, load, and status.
        const ALL: usize = 5 + CASES.len();
        self.done += 1;
        eprintln!(
            "node {}/{ALL} ({:.1} s) {title}",
            self.done,
            self.start.elapsed().as_secs_f64()
        );
    }
}

/// Runs toa-cli with all its output on our standard error.
fn toa_cli(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .context("cannot run toa-cli: it must be on the PATH")?;
    ensure!(status.success(), "toa-cli failed: {status}");
    Ok(())
}

/// Makes one connection, prints its line, and explains what is wrong with it.
fn connection(topology: &Topology, case: &Case) -> bool {
    topology.set_plan(Plan::client(case.carrier, KINDS));
    let wrong = match topology.curl(case.family, PORT, &[]) {
        Ok(line) => {
            println!("{line}");
            let hop = topology.hop_ip(case.family);
            mismatches(&line, case.expect, hop, topology.client_ip(case.family))
        }
        Err(error) => vec![format!("{error:#}")],
    };
    for mismatch in &wrong {
        eprintln!("demo: {}: {mismatch}", case.title);
    }
    wrong.is_empty()
}

/// The fields of a line, in order.
const FIELDS: [&str; 5] = ["peer", "original", "carried_by", "kind", "client"];

/// The values of a line's fields; one may have blanks in it.
fn fields(line: &str) -> Option<[&str; 5]> {
    let mut values = [""; 5];
    let mut rest = line.strip_prefix("peer=")?;
    for (at, next) in FIELDS[1..].iter().enumerate() {
        (values[at], rest) = rest.split_once(&format!(" {next}="))?;
    }
    values[4] = rest;
    Some(values)
}

/// What is wrong with a line; nothing, in the end.
fn mismatches(line: &str, expect: Expect, hop: IpAddr, client: IpAddr) -> Vec<String> {
    let Some([peer, original, carried_by, kind, from]) = fields(line) else {
        return vec![format!("{line:?} has not the fields {}", FIELDS.join(", "))];
    };
    let mut wrong = Vec::new();
    for (field, value, ip) in [("peer", peer, hop), ("client", from, client)] {
        if value.parse::<SocketAddr>().ok().map(|addr| addr.ip()) != Some(ip) {
            wrong.push(format!(
                "{field} is {value}, and should be {ip} with a port"
            ));
        }
    }
    let kind_wanted;
    let [original_wanted, carried_by_wanted, kind_wanted] = match expect {
        Expect::Client { carried_by, kind } => {
            kind_wanted = kind.to_string();
            [from, carried_by, &kind_wanted]
        }
        Expect::Nothing => ["none", "-", "-"],
        Expect::Unavailable => ["unavailable (module not loaded)", "-", "-"],
    };
    for (field, value, wanted) in [
        ("original", original, original_wanted),
        ("carried_by", carried_by, carried_by_wanted),
        ("kind", kind, kind_wanted),
    ] {
        if value != wanted {
            wrong.push(format!("{field} is {value}, and should be {wanted}"));
        }
    }
    wrong
}

/// libtoa's example server; killed in the end.
struct Server(Child);

impl Server {
    /// Returns when it listens on all of `addresses`.
    fn start<const N: usize>(addresses: [SocketAddr; N]) -> Result<Self> {
        let mut program = command("server");
        for address in addresses {
            program.arg("--listen").arg(address.to_string());
        }
        let child = program
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run libtoa's example `server`: it must be on the PATH")?;
        let mut server = Self(child);
        let stderr = server
            .0
            .stderr
            .take()
            .context("the server has no standard error")?;
        let lines = forward(BufReader::new(stderr));
        let mut listening = 0;
        while listening < N {
            match lines.recv_timeout(SERVER_START) {
                Ok(line) => listening += usize::from(line.starts_with("listening on ")),
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the server does not listen after {} s",
                        SERVER_START.as_secs()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the server ended at once: {}", server.0.wait()?)
                }
            }
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes on what the server says, for as long as it runs, and lets the caller look at it.
fn forward(from: impl BufRead + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in from.lines().map_while(Result::ok) {
            eprintln!("server: {line}");
            // Once all is listening nobody looks any more.
            let _ = sender.send(line);
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str, expect: Expect) -> Vec<String> {
        let [hop, client] = if line.contains('[') {
            ["fd00::2", "2001:db8::7"]
        } else {
            ["10.0.0.2", "203.0.113.7"]
        };
        mismatches(line, expect, hop.parse().unwrap(), client.parse().unwrap())
    }

    const ACK: Expect = Expect::Client {
        carried_by: "ack",
        kind: 200,
    };

    #[test]
    fn correct_lines_pass() {
        for (line, expect) in [
            (
                "peer=10.0.0.2:40312 original=203.0.113.7:51820 carried_by=ack kind=200 \
                 client=203.0.113.7:51820",
                ACK,
            ),
            (
                "peer=[fd00::2]:40313 original=[2001:db8::7]:51821 carried_by=syn kind=253 \
                 client=[2001:db8::7]:51821",
                Expect::Client {
                    carried_by: "syn",
                    kind: 253,
                },
            ),
            (
                "peer=10.0.0.2:40314 original=none carried_by=- kind=- client=203.0.113.7:51822",
                Expect::Nothing,
            ),
            (
                "peer=10.0.0.2:40311 original=unavailable (module not loaded) carried_by=- \
                 kind=- client=203.0.113.7:51819",
                Expect::Unavailable,
            ),
        ] {
            assert_eq!(wrong(line, expect), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (line, names) in [
            (
                "peer=10.0.0.2:1 original=203.0.113.7:51821 carried_by=ack kind=200 \
                 client=203.0.113.7:51820",
                &["original"][..],
            ),
            (
                "peer=203.0.113.7:51820 original=203.0.113.7:51820 carried_by=syn kind=254 \
                 client=203.0.113.7:51820",
                &["peer", "carried_by", "kind"],
            ),
            (
                "peer=10.0.0.2:1 original=none carried_by=- kind=- client=203.0.113.8:51820",
                &["client", "original", "carried_by", "kind"],
            ),
        ] {
            let wrong = wrong(line, ACK);
            assert_eq!(wrong.len(), names.len(), "{wrong:?}");
            for (mismatch, name) in wrong.iter().zip(names) {
                assert!(mismatch.starts_with(&format!("{name} is ")), "{mismatch}");
            }
        }
        assert!(wrong("404 not found", ACK)[0].contains("has not the fields"));
    }
}
