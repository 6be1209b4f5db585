// SPDX-License-Identifier: GPL-2.0
// Made by bindgen from toa-kmod/shim/shim.h; tests/abi compares. Do not edit.

pub const TOA_HOOK_CONN_REQUEST: u32 = 0;
pub const TOA_HOOK_CHILD_PROCESS: u32 = 1;
pub const TOA_HOOK_DISCONNECT: u32 = 2;
pub const TOA_HOOK_CHECK_REQ: u32 = 3;
pub const TOA_HOOK_RCV_ESTABLISHED: u32 = 4;
pub const TOA_GETNAME_INET: u32 = 0;
pub const TOA_GETNAME_INET6: u32 = 1;
pub const TOA_SWITCH_ON: u32 = 0;
pub const TOA_SWITCH_LOCAL: u32 = 1;
pub const TOA_SWITCH_PORTS: u32 = 2;
pub const TOA_TCP_SYN_SENT: u32 = 2;
pub const TOA_TCP_SYN_RECV: u32 = 3;
pub const TOA_TCP_CLOSE: u32 = 7;
pub const TOA_TCP_LISTEN: u32 = 10;
pub type __u8 = ::core::ffi::c_uchar;
pub type __u16 = ::core::ffi::c_ushort;
pub type __u32 = ::core::ffi::c_uint;
pub type __u64 = ::core::ffi::c_ulonglong;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct genl_info {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct kmem_cache {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct netlink_callback {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct request_sock {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct seq_file {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sk_buff {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct sock {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_flow {
    pub net: ::core::ffi::c_ulong,
    pub peer: [__u8; 16usize],
    pub local: [__u8; 16usize],
    pub peer_port: [__u8; 2usize],
    pub local_port: [__u8; 2usize],
    pub ifindex: __u32,
    pub seq: __u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct toa_socket {
    pub flow: toa_flow,
    pub tcp: __u8,
    pub v6: __u8,
    pub state: __u8,
}
unsafe extern "C" {
    pub fn toa_shim_ftrace_attach(hook: __u32) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_ftrace_detach(hook: __u32);
}
unsafe extern "C" {
    pub fn toa_shim_kprobe_attach(hook: __u32) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_kprobe_detach(hook: __u32);
}
unsafe extern "C" {
    pub fn toa_shim_kprobe_missed(hook: __u32) -> __u64;
}
unsafe extern "C" {
    pub fn toa_shim_kprobe_needs_ftrace(hook: __u32) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_hook_quiesce();
}
unsafe extern "C" {
    pub fn toa_shim_getname_attach(which: __u32) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_getname_detach(which: __u32);
}
unsafe extern "C" {
    pub fn toa_shim_getname_met(
        redirect: *mut ::core::ffi::c_void,
        registers: *mut ::core::ffi::c_void,
        caller: ::core::ffi::c_ulong,
    );
}
unsafe extern "C" {
    pub fn toa_shim_getname_redirect(
        redirect: *mut ::core::ffi::c_void,
        registers: *mut ::core::ffi::c_void,
    );
}
unsafe extern "C" {
    pub fn toa_shim_getname_redirect_early(
        redirect: *mut ::core::ffi::c_void,
        registers: *mut ::core::ffi::c_void,
    );
}
unsafe extern "C" {
    pub fn toa_shim_getname_local(on: __u8);
}
unsafe extern "C" {
    pub fn toa_shim_getname_quiesce();
}
unsafe extern "C" {
    pub fn toa_shim_symbol(
        address: ::core::ffi::c_ulong,
        name: *mut __u8,
        size: usize,
    ) -> usize;
}
unsafe extern "C" {
    pub fn toa_shim_symbols_known() -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_kprobes_silent() -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_tracepoint_attach() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_tracepoint_detach();
}
unsafe extern "C" {
    pub fn toa_shim_sockopt_attach() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_sockopt_open();
}
unsafe extern "C" {
    pub fn toa_shim_sockopt_detach();
}
unsafe extern "C" {
    pub fn toa_shim_copy_to_user(
        to: *mut ::core::ffi::c_void,
        from: *const ::core::ffi::c_void,
        bytes: ::core::ffi::c_ulong,
    ) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_net_attach(bytes: usize) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_net_detach();
}
unsafe extern "C" {
    pub fn toa_shim_net_clear(first: usize, count: usize);
}
unsafe extern "C" {
    pub fn toa_shim_count(sk: *const sock, node: *mut ::core::ffi::c_void, index: usize);
}
unsafe extern "C" {
    pub fn toa_shim_count_off(
        sk: *const sock,
        node: *mut ::core::ffi::c_void,
        index: usize,
    );
}
unsafe extern "C" {
    pub fn toa_shim_proc_stats_attach() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_proc_stats_detach();
}
unsafe extern "C" {
    pub fn toa_shim_proc_status_attach() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_proc_status_detach();
}
unsafe extern "C" {
    pub fn toa_shim_seq_write(seq: *mut seq_file, text: *const __u8, len: usize);
}
unsafe extern "C" {
    pub fn toa_shim_seq_number(seq: *mut seq_file, value: __u64, width: __u32);
}
unsafe extern "C" {
    pub fn toa_shim_netlink_attach() -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn toa_shim_netlink_detach();
}
unsafe extern "C" {
    pub fn toa_shim_netlink_begin(
        skb: *mut sk_buff,
        cb: *mut netlink_callback,
        command: __u8,
    ) -> *mut ::core::ffi::c_void;
}
unsafe extern "C" {
    pub fn toa_shim_netlink_put(
        skb: *mut sk_buff,
        attribute: __u16,
        value: *const ::core::ffi::c_void,
        len: usize,
    ) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_netlink_end(skb: *mut sk_buff, message: *mut ::core::ffi::c_void);
}
unsafe extern "C" {
    pub fn toa_shim_netlink_cancel(skb: *mut sk_buff, message: *mut ::core::ffi::c_void);
}
unsafe extern "C" {
    pub fn toa_shim_netlink_generation(cb: *mut netlink_callback, generation: __u32);
}
unsafe extern "C" {
    pub fn toa_shim_netlink_refuse(
        info: *mut genl_info,
        part: *const __u8,
        why: *const ::core::ffi::c_char,
    );
}
unsafe extern "C" {
    pub fn toa_shim_syn_flow(
        listener: *const sock,
        syn: *mut sk_buff,
        flow: *mut toa_flow,
    );
}
unsafe extern "C" {
    pub fn toa_shim_child_flow(child: *const sock, flow: *mut toa_flow);
}
unsafe extern "C" {
    pub fn toa_shim_socket(sk: *const sock, socket: *mut toa_socket);
}
unsafe extern "C" {
    pub fn toa_shim_dropped_ack(
        listener: *const sock,
        ack: *const sk_buff,
        req: *const request_sock,
        flow: *mut toa_flow,
    ) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_fastopen_ack(
        child: *const sock,
        ack: *const sk_buff,
        req: *const request_sock,
        flow: *mut toa_flow,
    ) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_fastopen_seq(sk: *const sock, seq: *mut __u32) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_next_data(sk: *const sock, data: *const sk_buff) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_is_sound(skb: *mut sk_buff) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_netns(sk: *const sock) -> __u32;
}
unsafe extern "C" {
    pub fn toa_shim_rcu_read_lock();
}
unsafe extern "C" {
    pub fn toa_shim_rcu_read_unlock();
}
unsafe extern "C" {
    pub fn toa_shim_synchronize_rcu();
}
unsafe extern "C" {
    pub fn toa_shim_may_reschedule();
}
unsafe extern "C" {
    pub fn toa_shim_cache_new(name: *const __u8, bytes: __u32) -> *mut kmem_cache;
}
unsafe extern "C" {
    pub fn toa_shim_cache_destroy(cache: *mut kmem_cache);
}
unsafe extern "C" {
    pub fn toa_shim_cache_alloc(cache: *mut kmem_cache) -> *mut ::core::ffi::c_void;
}
unsafe extern "C" {
    pub fn toa_shim_cache_free(cache: *mut kmem_cache, object: *mut ::core::ffi::c_void);
}
unsafe extern "C" {
    pub fn toa_shim_alloc_large(bytes: usize) -> *mut ::core::ffi::c_void;
}
unsafe extern "C" {
    pub fn toa_shim_free(object: *mut ::core::ffi::c_void);
}
unsafe extern "C" {
    pub fn toa_shim_irq_save() -> ::core::ffi::c_ulong;
}
unsafe extern "C" {
    pub fn toa_shim_irq_restore(flags: ::core::ffi::c_ulong);
}
unsafe extern "C" {
    pub fn toa_shim_in_nmi() -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_refill_attach();
}
unsafe extern "C" {
    pub fn toa_shim_refill_queue();
}
unsafe extern "C" {
    pub fn toa_shim_refill_detach();
}
unsafe extern "C" {
    pub fn toa_shim_seconds() -> __u32;
}
unsafe extern "C" {
    pub fn toa_shim_hash(
        a: __u32,
        b: __u32,
        c: __u32,
        key: *const ::core::ffi::c_ulong,
    ) -> __u32;
}
unsafe extern "C" {
    pub fn toa_shim_random(to: *mut ::core::ffi::c_void, bytes: usize);
}
unsafe extern "C" {
    pub fn toa_shim_preempt_rt() -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_percpu_alloc(bytes: usize) -> *mut ::core::ffi::c_void;
}
unsafe extern "C" {
    pub fn toa_shim_percpu_free(percpu: *mut ::core::ffi::c_void);
}
unsafe extern "C" {
    pub fn toa_shim_percpu_clear(
        percpu: *mut ::core::ffi::c_void,
        first: usize,
        count: usize,
    );
}
unsafe extern "C" {
    pub fn toa_shim_percpu_read(
        percpu: *const ::core::ffi::c_void,
        index: usize,
        cpu: __u32,
    ) -> __u64;
}
unsafe extern "C" {
    pub fn toa_shim_next_cpu(cpu: __u32) -> __u32;
}
unsafe extern "C" {
    pub fn toa_shim_param_hook(text: *mut *const __u8) -> usize;
}
unsafe extern "C" {
    pub fn toa_shim_param_layouts(text: *mut *const __u8) -> usize;
}
unsafe extern "C" {
    pub fn toa_shim_param_trusted(text: *mut *const __u8) -> usize;
}
unsafe extern "C" {
    pub fn toa_shim_param_first_data() -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_switch_lock();
}
unsafe extern "C" {
    pub fn toa_shim_switch_unlock();
}
unsafe extern "C" {
    pub fn toa_shim_may_set(loaded: __u8) -> __u8;
}
unsafe extern "C" {
    pub fn toa_shim_version(text: *mut *const __u8) -> usize;
}
unsafe extern "C" {
    pub fn toa_shim_alloc(bytes: usize) -> *mut ::core::ffi::c_void;
}
unsafe extern "C" {
    pub fn toa_shim_log_error(
        what: *const __u8,
        what_len: usize,
        why: *const __u8,
        why_len: usize,
        err: ::core::ffi::c_int,
    );
}
