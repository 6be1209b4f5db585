// SPDX-License-Identifier: GPL-2.0
//! The profiles of `docs/wire-formats.md`, written a second time.

/// A row of a set: kind, length, and the layout's name.
pub(crate) type Row = (u8, u8, &'static str);

/// Every profile by its name.
pub(crate) const PROFILES: [(&str, &[Row]); 8] = [
    (
        "tencent",
        &[
            (200, 8, "client-v4"),
            (200, 20, "client-v6"),
            (253, 20, "client-v6"),
            (254, 8, "client-v4"),
            (254, 20, "client-v6"),
            (201, 6, "vpc-id"),
            (202, 8, "vip-v4"),
        ],
    ),
    (
        "lvs",
        &[
            (200, 8, "client-v4"),
            (253, 20, "client-v6"),
            (254, 8, "client-v4"),
        ],
    ),
    ("dpvs", &[(254, 8, "client-v4"), (254, 20, "client-v6")]),
    (
        "alibaba",
        &[
            (249, 40, "client-vip-vpc-v6"),
            (250, 8, "vip-v4"),
            (252, 20, "client-vip-vpc-v4"),
            (253, 20, "client-v6"),
            (254, 8, "client-v4"),
        ],
    ),
    (
        "alibaba-cdn",
        &[(28, 7, "client-v4-noport"), (28, 19, "client-v6-noport")],
    ),
    ("huawei", &[(253, 20, "client-v6"), (254, 8, "client-v4")]),
    (
        "bytedance",
        &[
            (254, 8, "client-v4"),
            (254, 16, "client-vip-v4"),
            (254, 20, "client-v6"),
        ],
    ),
    (
        "ucloud",
        &[
            (200, 8, "client-v4"),
            (252, 8, "client-v4"),
            (253, 8, "client-v4"),
        ],
    ),
];
