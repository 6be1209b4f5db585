// SPDX-License-Identifier: GPL-2.0

//! A list of ports, as a parameter has it.

/// Tells `each` port of a list like `80,443,8080`. An empty list has none.
///
/// # Errors
///
/// The first entry that is not a number from 1 to 65535; `each` may have been told others by then.
pub fn parse(list: &[u8], mut each: impl FnMut(u16)) -> Result<(), &[u8]> {
    if list.is_empty() {
        return Ok(());
    }
    for entry in list.split(|&byte| byte == b',') {
        each(port(entry).ok_or(entry)?);
    }
    Ok(())
}

fn port(entry: &[u8]) -> Option<u16> {
    if entry.is_empty() {
        return None;
    }
    let port = entry.iter().try_fold(0u16, |port, &byte| {
        let digit = byte.wrapping_sub(b'0');
        let digit = (digit < 10).then_some(digit)?;
        port.checked_mul(10)?.checked_add(digit.into())
    })?;
    (port != 0).then_some(port)
}
