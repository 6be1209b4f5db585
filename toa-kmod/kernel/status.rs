// SPDX-License-Identifier: GPL-2.0

//! `/proc/net/toa`: what `toa-cli status` reads. One `key: value` a line; keys are only added.

use super::hooks::{self, How};
use super::seq::Seq;
use super::{layouts, shim, shim_text, State};
use crate::backend;
use crate::pure::text::Text;
use crate::pure::uapi;

/// Writes the file.
pub(super) fn show(seq: &mut Seq, state: &State) {
    seq.text("version: ").bytes(shim_text!(toa_shim_version));
    seq.text("\nabi: ").number(uapi::TOA_ABI_VERSION.into(), 1);
    seq.text("\nrust: ").text(backend::NAME).text("\n");
    for hook in hooks::HOOKS {
        let how = match hooks::attached(hook) {
            None if hooks::is_optional(hook) => continue,
            Some(How::Ftrace) => "ftrace",
            Some(How::Kprobe) => "kprobe",
            None => "detached",
        };
        seq.text("hook ")
            .text(hooks::hook_name(hook))
            .text(": ")
            .text(how);
        seq.text(" missed ")
            .number(hooks::missed(hook), 1)
            .text("\n");
    }
    // A tracepoint calls every probe, every time.
    seq.text("hook tcp_destroy_sock: tracepoint missed 0\n");
    seq.text("layouts: ");
    layouts::show(seq, &state.layouts);
    seq.text("\ntrusted: ")
        .bytes(shim_text!(toa_shim_param_trusted));
    seq.text("\nsessions: ")
        .number(state.stats.live(), 1)
        .text("\n");
    state.refused.each(|source, options| {
        seq.text("refused: ")
            .bytes(source.show(Text::<64>::new()).as_bytes());
        seq.text(" ").number(options, 1).text("\n");
    });
}
