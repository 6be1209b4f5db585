// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nothing here: this package is its tests, which hold the generated bindings and the C side's
//! layout against the headers.
