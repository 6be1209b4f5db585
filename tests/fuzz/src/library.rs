// SPDX-License-Identifier: MIT OR Apache-2.0
//! libtoa, whatever the kernel says.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libtoa::Error;

use crate::bytes::Bytes;
use crate::kernel::{Asked, Reply, answering, socket};

/// `TOA_SO_ORIGINAL`, `TOA_SO_ABI` and the size of the answer: `toa.h`.
const ORIGINAL: i32 = 0x544f_4100;
const ABI: i32 = 0x544f_4101;
const SIZE: u32 = 72;

fn address(family: u8, addr: &[u8], port: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([port[0], port[1]]);
    match family {
        2 => {
            let v4: [u8; 4] = addr[..4].try_into().unwrap();
            Some((Ipv4Addr::from(v4), port).into())
        }
        10 => {
            let v6: [u8; 16] = addr.try_into().unwrap();
            Some((Ipv6Addr::from(v6), port).into())
        }
        _ => None,
    }
}

/// Whether `error` is the one that this ABI version, of the module, makes.
fn is_about_version(error: &Error, version: u32) -> bool {
    match error {
        Error::AbiNewer { module } => version > libtoa::ABI && *module == version,
        Error::AbiOlder { module } => version < libtoa::ABI && *module == version,
        _ => false,
    }
}

/// Whether `error` is the one that this errno makes.
fn is_about_errno(error: &Error, errno: i32) -> bool {
    match error {
        Error::NotLoaded => errno == libc::ENOPROTOOPT,
        Error::NotConnected => errno == libc::ENOTCONN,
        Error::NotTcp => [libc::EOPNOTSUPP, libc::ENOTSOCK].contains(&errno),
        Error::Os(error) => error.raw_os_error() == Some(errno),
        _ => false,
    }
}

/// `data` is what the kernel says: an errno, or a length and the bytes of an answer.
pub fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let errno = i32::from(u16::from_le_bytes(bytes.array()));
    let reply = if errno == 0 {
        let length = u32::from_ne_bytes(bytes.array());
        Reply::Bytes(bytes.0.to_vec(), length)
    } else {
        Reply::Error(errno)
    };

    let (heard, asked) = answering(reply.clone(), || libtoa::original(socket()));
    let question = Asked {
        level: libc::IPPROTO_IP,
        name: ORIGINAL,
        room: SIZE,
    };
    assert_eq!(asked, [question]);
    // What the kernel does not write stays zero.
    let mut answer = [0; SIZE as usize];
    let given = &bytes.0[..bytes.0.len().min(answer.len())];
    answer[..given.len()].copy_from_slice(given);
    let version = u16::from_ne_bytes([answer[0], answer[1]]).into();
    match heard {
        Err(error) if errno != 0 => assert!(is_about_errno(&error, errno), "{errno} {error:?}"),
        Err(error) => assert!(is_about_version(&error, version), "{version} {error:?}"),
        Ok(heard) => {
            assert_eq!((errno, version), (0, libtoa::ABI));
            let client = address(answer[4], &answer[16..32], &answer[8..10]);
            let peer = address(answer[12], &answer[32..48], &answer[10..12]);
            match heard {
                None => assert!(client.is_none() || peer.is_none()),
                Some(heard) => {
                    assert_eq!((Some(heard.addr), Some(heard.peer)), (client, peer));
                    assert_eq!([heard.kind, heard.length], answer[6..8]);
                    let vip = address(answer[70], &answer[48..64], &answer[68..70]);
                    assert_eq!(heard.vip, vip);
                    let id = u32::from_be_bytes(answer[64..68].try_into().unwrap());
                    assert_eq!(heard.vpc_id, (answer[13] & 2 != 0).then_some(id));
                    let number = match heard.segment {
                        libtoa::Segment::Syn => 1,
                        libtoa::Segment::Ack => 2,
                        libtoa::Segment::Data => 3,
                        libtoa::Segment::Other(number) => {
                            assert!(![1, 2, 3].contains(&number));
                            number
                        }
                        _ => unreachable!("a segment that the library has no name for"),
                    };
                    assert_eq!(number, answer[5]);
                }
            }
            // The best address there is, with no second call.
            let (best, asked) = answering(reply.clone(), || libtoa::client_addr(socket()));
            match client.filter(|_| peer.is_some()).or(peer) {
                Some(want) => assert_eq!(best.expect("an address"), want),
                // The socket listens, so it has no peer to fall back to.
                None => assert!(best.is_err()),
            }
            assert_eq!(asked.len(), 1);
        }
    }

    let (abi, asked) = answering(reply, libtoa::abi);
    let question = Asked {
        level: libc::IPPROTO_IP,
        name: ABI,
        room: 4,
    };
    assert_eq!(asked, [question]);
    match abi {
        Ok(abi) => assert_eq!(abi.to_ne_bytes(), answer[..4]),
        Err(error) => assert!(is_about_errno(&error, errno), "{errno} {error:?}"),
    }
}
