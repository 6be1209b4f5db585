// SPDX-License-Identifier: MIT OR Apache-2.0
//! `toa-cli sessions`: the connections that have an address.

use std::fmt::Write as _;

use serde::Serialize;

use crate::control::{Control, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::host::Host;
use crate::render::{self, Output, OutputArgs};

/// What is its own in the JSON document.
#[derive(Debug, Serialize)]
struct Body {
    sessions: Vec<Session>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says why there is nothing to list.
pub fn run(host: &Host, args: OutputArgs) -> Result<Exit, Failure> {
    super::require_loaded(host)?;
    let sessions = Control::open()
        .and_then(|control| control.sessions())
        .map_err(|error| super::set::failure(&error))?;
    super::print(&match args.output {
        Output::Text => text(&sessions),
        Output::Json => render::json("sessions", Exit::Good, &Body { sessions }),
    })?;
    Ok(Exit::Good)
}

/// What is not known.
const NOTHING: &str = "-";

fn text(sessions: &[Session]) -> String {
    let head = ["CLIENT", "VIP", "PEER", "PORT", "CARRIED BY", "NETNS"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| {
        let client = session.client.as_ref();
        let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
        [
            or_nothing(client.map(|client| client.addr.to_string())),
            or_nothing(session.vip.map(|vip| vip.to_string())),
            session.peer.to_string(),
            session.local_port.to_string(),
            or_nothing(
                client.map(|client| {
                    format!("{} {}/{}", client.carried_by, client.kind, client.length)
                }),
            ),
            session.netns.to_string(),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Client;

    #[test]
    fn columns_line_up() {
        let known = Session {
            client: Some(Client {
                addr: "203.0.113.7:51820".parse().unwrap(),
                carried_by: "syn".to_owned(),
                kind: 200,
                length: 8,
            }),
            vip: None,
            vpc_id: None,
            peer: "[fd00::2]:1".parse().unwrap(),
            local_port: 80,
            netns: 4_026_531_840,
        };
        let nameless = Session {
            client: None,
            vip: Some("198.51.100.1:443".parse().unwrap()),
            ..known.clone()
        };
        assert_eq!(
            text(&[known, nameless]),
            "CLIENT             VIP               PEER         PORT  CARRIED BY  NETNS\n\
             203.0.113.7:51820  -                 [fd00::2]:1  80    syn 200/8   4026531840\n\
             -                  198.51.100.1:443  [fd00::2]:1  80    -           4026531840\n"
        );
    }
}
