// SPDX-License-Identifier: GPL-2.0

//! `/proc/net/toa`: what `toa-cli status` reads. One `key: value` a line; keys are only added.

use super::guard::RcuReader;
use super::hooks::{self, How};
use super::seq::Seq;
use super::{layouts, shim, shim_text, transparent, State};
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
    transparent::show(seq, state);
    show_config(seq, state);
    seq.text("\nsessions: ")
        .number(state.stats.node().live(), 1)
        .text("\n");
    state.refused.each(|source, options| {
        seq.text("refused: ")
            .bytes(source.show(Text::<64>::new()).as_bytes());
        seq.text(" ").number(options, 1).text("\n");
    });
}

/// What is in force, which is not what the parameters say once it has been changed.
fn show_config(seq: &mut Seq, state: &State) {
    let rcu = RcuReader::new();
    let config = state.config.get(&rcu);
    seq.text("layouts: ")
        .bytes(layouts::show(&config.layouts.table).as_bytes());
    seq.text("\ntrusted: ");
    if let Some(word) = config.trusted.word() {
        seq.text(word);
        return;
    }
    let mut comma = "";
    for prefix in config.trusted.prefixes() {
        seq.text(comma)
            .bytes(prefix.show(Text::<64>::new()).as_bytes());
        comma = ",";
    }
}
