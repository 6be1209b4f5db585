// SPDX-License-Identifier: MIT OR Apache-2.0
//! One option, whose body may be shorter or longer than its length says.

use std::sync::LazyLock;

use toa_kmod::pure::layout::{Toa, Verdict};

use crate::bytes::Bytes;
use crate::oracle::{Set, Sort, Told, told_by};

static SETS: LazyLock<Vec<Set>> = LazyLock::new(Set::every);

/// `data` is whether it is a SYN, kind, length, and the body.
pub fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (syn, kind, length) = (bytes.flag(), bytes.byte(), bytes.byte());
    let body = bytes.0;
    for set in SETS.iter() {
        let sort = match set.table.decode(kind, length, body, syn) {
            Verdict::Toa(carried) => {
                assert_eq!((carried.layout.kind, carried.layout.length), (kind, length));
                Sort::Ours(told_by(&Toa {
                    client: carried.client(),
                    vip: carried.vip(),
                    vpc_id: carried.vpc_id(),
                }))
            }
            Verdict::Foreign => Sort::Foreign,
            Verdict::WrongLength => Sort::Broken,
        };
        let option = [&[kind, length], body].concat();
        if option.len() == usize::from(length) {
            assert_eq!(sort, set.sort_of(&option, syn), "{option:?}");
        } else if let Sort::Ours(told) = sort {
            // The walk makes no such option; that it tells nothing is all that counts.
            assert_eq!(told, Told::default(), "{option:?}");
        }
    }
}
