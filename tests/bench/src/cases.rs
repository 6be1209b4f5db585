// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is counted, and what it may cost.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::node::Family::{V4, V6};
use crate::node::{Ask, Carrier, Node};

/// Counts something in the node: instructions, or bytes.
pub(crate) type Work = fn(&mut Node) -> Result<f64>;

/// What a case may cost, on the kernel to which the budgets apply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// The module may add so much.
    Added(f64),
    /// What is done with the module may take so many times what is done without.
    Times(f64),
    /// The difference may be so many times that of another case.
    AddedTimes(f64, &'static str),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Instructions,
    Bytes,
}

/// One line of the table: the same work without the module and with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is, for a reader.
    pub(crate) about: &'static str,
    /// What is counted without the module.
    pub(crate) without: Work,
    /// What is counted with it.
    pub(crate) with: Work,
    /// Whether `without` wants the module too: it is something else that it does.
    pub(crate) loaded: bool,
    /// Connections that live beside, each with a session where the module is loaded.
    pub(crate) live: usize,
    /// What gives them one.
    pub(crate) carrier: Carrier,
    /// The module's parameters.
    pub(crate) parameters: &'static str,
    /// What is counted.
    pub(crate) unit: Unit,
    /// What it may cost.
    pub(crate) limit: Option<Limit>,
}

impl Case {
    /// Whether it takes long to make its live connections: it is done once, for all cases with as
    /// many.
    pub(crate) fn is_slow(&self) -> bool {
        self.live > 1_000
    }

    const fn new(name: &'static str, about: &'static str, work: Work) -> Self {
        Self {
            name,
            about,
            without: work,
            with: work,
            loaded: false,
            live: 0,
            carrier: Carrier::Ack,
            parameters: "",
            unit: Unit::Instructions,
            limit: None,
        }
    }

    /// Something else stands in where the module is not loaded.
    const fn against(mut self, without: Work) -> Self {
        self.without = without;
        self
    }

    /// Something else that wants the module too.
    const fn against_loaded(mut self, without: Work) -> Self {
        self.without = without;
        self.loaded = true;
        self
    }

    const fn live(mut self, live: usize) -> Self {
        self.live = live;
        self
    }

    /// Beside connections that carried none.
    const fn live_without(mut self, live: usize) -> Self {
        self.live = live;
        self.carrier = Carrier::None;
        self
    }

    const fn parameters(mut self, parameters: &'static str) -> Self {
        self.parameters = parameters;
        self
    }

    const fn bytes(mut self) -> Self {
        self.unit = Unit::Bytes;
        self
    }

    const fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// What a connection without TOA may cost: 200 for the hooks on its SYN and on its birth, and 60 for the
/// one between them, which sees the ACKs that the kernel drops.
const WITHOUT_TOA: f64 = 260.0;

/// The cases, in the order in which they are shown. Each is counted with the module loaded anew.
pub(crate) const CASES: &[Case] = &[
    Case::new("none-v4", "connection without TOA, IPv4", |node| {
        node.connections(V4, Carrier::None, Ask::Nothing)
    })
    .limit(Limit::Added(WITHOUT_TOA)),
    Case::new("none-v6", "connection without TOA, IPv6", |node| {
        node.connections(V6, Carrier::None, Ask::Nothing)
    })
    .limit(Limit::Added(WITHOUT_TOA)),
    Case::new(
        "none-loopback",
        "connection without TOA, both ends on the node",
        |node| node.loopback(V4),
    )
    .limit(Limit::Added(WITHOUT_TOA)),
    Case::new(
        "syn-v4",
        "connection with TOA in its SYN, IPv4, asked once",
        |node| node.connections(V4, Carrier::Syn, Ask::Original),
    )
    .against(|node| node.connections(V4, Carrier::Syn, Ask::Peer))
    .limit(Limit::Added(900.0)),
    Case::new(
        "syn-v6",
        "connection with TOA in its SYN, IPv6, asked once",
        |node| node.connections(V6, Carrier::Syn, Ask::Original),
    )
    .against(|node| node.connections(V6, Carrier::Syn, Ask::Peer))
    .limit(Limit::Added(900.0)),
    Case::new(
        "ack-v4",
        "connection with TOA in its ACK, IPv4, asked once",
        |node| node.connections(V4, Carrier::Ack, Ask::Original),
    )
    .against(|node| node.connections(V4, Carrier::Ack, Ask::Peer))
    .limit(Limit::Added(900.0)),
    Case::new(
        "ack-v6",
        "connection with TOA in its ACK, IPv6, asked once",
        |node| node.connections(V6, Carrier::Ack, Ask::Original),
    )
    .against(|node| node.connections(V6, Carrier::Ack, Ask::Peer))
    .limit(Limit::Added(900.0)),
    Case::new(
        "ack-v4-trusted-1",
        "connection with TOA in its ACK, asked once, 1 prefix trusted",
        |node| node.connections(V4, Carrier::Ack, Ask::Original),
    )
    .against(|node| node.connections(V4, Carrier::Ack, Ask::Peer))
    .parameters("trusted=10.0.0.0/8"),
    Case::new(
        "ack-v4-trusted-1000",
        "connection with TOA in its ACK, asked once, 1,000 prefixes trusted",
        |node| {
            node.trust_many()?;
            node.connections(V4, Carrier::Ack, Ask::Original)
        },
    )
    .against(|node| node.connections(V4, Carrier::Ack, Ask::Peer))
    // One that goes through the prefixes one by one takes several times as much.
    .limit(Limit::AddedTimes(1.1, "ack-v4-trusted-1")),
    Case::new(
        "ack-v4-untrusted",
        "connection with TOA in its ACK, whose source is not trusted",
        |node| node.connections_untrusted(V4, Carrier::Ack),
    )
    .parameters("trusted=192.0.2.0/24"),
    Case::new(
        "none-v4-beside",
        "connection without TOA beside others that have it",
        |node| node.connections_beside(V4),
    ),
    Case::new(
        "none-v4-kprobe",
        "connection without TOA, IPv4, hook=kprobe",
        |node| node.connections(V4, Carrier::None, Ask::Nothing),
    )
    .parameters("hook=kprobe"),
    Case::new(
        "syn-v4-kprobe",
        "connection with TOA in its SYN, asked once, hook=kprobe",
        |node| node.connections(V4, Carrier::Syn, Ask::Original),
    )
    .against(|node| node.connections(V4, Carrier::Syn, Ask::Peer))
    .parameters("hook=kprobe"),
    Case::new("data", "data segment in, read by the server", Node::data)
        .live(10)
        .limit(Limit::Added(0.0)),
    Case::new(
        "data-read",
        "the same with first_data=1, on a connection whose client is known",
        Node::data,
    )
    .live(10)
    .parameters("first_data=1"),
    Case::new(
        "ask",
        "getsockopt TOA_SO_ORIGINAL against getpeername",
        |node| node.asked(Ask::Original),
    )
    .against(|node| node.asked(Ask::Peer))
    .live(10)
    .limit(Limit::Times(1.4)),
    Case::new(
        "lookup",
        "getsockopt TOA_SO_ORIGINAL against TOA_SO_ABI, 100 live",
        |node| node.asked(Ask::Original),
    )
    .against_loaded(|node| node.asked(Ask::Abi))
    .live(100),
    Case::new("peer-off", "getpeername with an address", |node| {
        node.asked(Ask::Peer)
    })
    .live(10)
    .limit(Limit::Added(0.0)),
    Case::new(
        "peer-none",
        "getpeername without an address, transparent=1",
        |node| node.asked(Ask::Peer),
    )
    .live_without(10)
    .parameters("transparent=1")
    .limit(Limit::Added(60.0)),
    Case::new(
        "peer-told",
        "getpeername with an address, transparent=1",
        |node| node.asked(Ask::Peer),
    )
    .live(10)
    .parameters("transparent=1")
    .limit(Limit::Added(200.0)),
    Case::new(
        "none-v4-many",
        "connection without TOA, 100,000 live",
        |node| node.connections(V4, Carrier::None, Ask::Nothing),
    )
    .live(100_000)
    .limit(Limit::Added(WITHOUT_TOA)),
    Case::new(
        "ack-v4-many",
        "connection with TOA in its ACK, asked once, 100,000 live",
        |node| node.connections(V4, Carrier::Ack, Ask::Original),
    )
    .against(|node| node.connections(V4, Carrier::Ack, Ask::Peer))
    .live(100_000)
    .limit(Limit::Added(900.0)),
    Case::new(
        "ask-many",
        "getsockopt TOA_SO_ORIGINAL against getpeername, 100,000 live",
        |node| node.asked(Ask::Original),
    )
    .against(|node| node.asked(Ask::Peer))
    .live(100_000)
    .limit(Limit::Times(1.4)),
    Case::new(
        "lookup-many",
        "getsockopt TOA_SO_ORIGINAL against TOA_SO_ABI, 100,000 live",
        |node| node.asked(Ask::Original),
    )
    .against_loaded(|node| node.asked(Ask::Abi))
    .live(100_000)
    .limit(Limit::AddedTimes(1.1, "lookup")),
    Case::new(
        "memory",
        "slab memory of a connection with TOA, 100,000 live",
        Node::memory,
    )
    .live(100_000)
    .bytes()
    .limit(Limit::Added(128.0)),
];

/// The case of this name.
pub(crate) fn find(name: &str) -> Result<&'static Case> {
    CASES
        .iter()
        .find(|case| case.name == name)
        .with_context(|| {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            format!("there is no case {name}; there are: {}", names.join(", "))
        })
}

/// The cases of these names, or all, in the table's order, with those that judge them.
pub(crate) fn choose(names: &[String]) -> Result<Vec<&'static Case>> {
    let mut chosen = Vec::new();
    for name in names {
        let case = find(name)?;
        chosen.push(case.name);
        if let Some(Limit::AddedTimes(_, other)) = case.limit {
            chosen.push(find(other)?.name);
        }
    }
    let wanted = |case: &&Case| names.is_empty() || chosen.contains(&case.name);
    Ok(CASES.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_judges_exist() {
        for (n, case) in CASES.iter().enumerate() {
            assert!(
                CASES[..n].iter().all(|other| other.name != case.name),
                "{}",
                case.name
            );
            if let Some(Limit::AddedTimes(_, other)) = case.limit {
                find(other).unwrap();
            }
        }
    }

    #[test]
    fn a_case_brings_the_one_that_judges_it() {
        let names = |cases: Vec<&Case>| cases.iter().map(|case| case.name).collect::<Vec<_>>();
        assert_eq!(
            names(choose(&["lookup-many".to_owned()]).unwrap()),
            ["lookup", "lookup-many"]
        );
        assert_eq!(choose(&[]).unwrap().len(), CASES.len());
        assert!(
            choose(&["nothing".to_owned()])
                .unwrap_err()
                .to_string()
                .contains("none-v4, ")
        );
    }
}
