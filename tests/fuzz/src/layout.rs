// SPDX-License-Identifier: MIT OR Apache-2.0
//! One option, whose body may be shorter or longer than its length says.

use toa_kmod::pure::layout::{Verdict, decode};

use crate::bytes::Bytes;
use crate::oracle::{Sort, client_of, sort_of};

/// `data` is whether it is a SYN, kind, length, and the body.
pub fn check(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (syn, kind, length) = (bytes.flag(), bytes.byte(), bytes.byte());
    let body = bytes.0;
    let sort = match decode(kind, length, body, syn) {
        Verdict::Toa(carried) => match carried.toa() {
            Some(toa) => {
                assert_eq!((toa.kind, toa.length), (kind, length));
                Sort::Client(client_of(&toa))
            }
            None => Sort::Broken,
        },
        Verdict::Foreign => Sort::Foreign,
        Verdict::WrongLength => Sort::Broken,
    };
    let option = [&[kind, length], body].concat();
    if option.len() == usize::from(length) {
        assert_eq!(sort, sort_of(&option, syn), "{option:?}");
    } else {
        // The walk makes no such option; that it names nobody is all that counts.
        assert!(!matches!(sort, Sort::Client(_)), "{option:?}");
    }
}
