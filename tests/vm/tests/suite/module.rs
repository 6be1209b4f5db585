// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loading and unloading at any moment.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libtoa::{Error, Segment};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use toa_cli::client::Client;
use toa_cli::wire::toa;
use toa_testbed::{Family, command};
use toa_vm_tests::node::{self, PATIENCE, meminfo, usual_or_long};
use toa_vm_tests::{
    World, accept, kernel_log, module, original, peer_ip, server_ip, sessions, settle, sockopt,
    wait_readable,
};

use super::cli;
use super::segments::rare_ways_work;

const TOA_SO_ORIGINAL: i32 = 0x544f_4100;
const TOA_SO_GET_LOOKUP: i32 = 4096;
/// SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, of nf_conntrack.
const SO_ORIGINAL_DST: i32 = 80;
/// IPT_SO_GET_INFO, of ip_tables.
const IPT_SO_GET_INFO: i32 = 64;

/// v4 and v6, by SYN and by ACK.
fn all_ways_work(world: &World) {
    for (kind, family) in [(200, Family::V4), (253, Family::V6)] {
        let client = original(family, 7, 7);
        let listener = world.listen(family);
        for (segment, syn, ack) in [
            (Segment::Syn, toa(kind, client), vec![]),
            (Segment::Ack, vec![], toa(kind, client)),
        ] {
            let mut conn = world.connect(family, &listener, &syn, &ack);
            let told = libtoa::original(&conn.stream).unwrap().unwrap();
            assert_eq!((told.addr, told.segment), (client, segment));
            conn.exchange();
        }
    }
    settle();
}

fn attached() -> Vec<String> {
    let text = fs::read_to_string("/proc/net/toa").unwrap();
    text.lines()
        .filter(|line| line.starts_with("hook ") && !line.contains("tracepoint"))
        .map(|line| line.split_whitespace().nth(2).unwrap().to_owned())
        .collect()
}

#[test]
fn each_hook_parameter_attaches_so_and_serves_all_ways() {
    for (parameters, by) in [
        ("", "ftrace"),
        ("hook=auto", "ftrace"),
        ("hook=ftrace", "ftrace"),
        ("hook=kprobe", "kprobe"),
    ] {
        let _unloaded = module::Unloaded::now();
        module::assert_nothing_left();
        module::load(parameters).unwrap();
        assert_eq!(attached(), [by; 4], "{parameters}");
        assert!(!module::hooked().is_empty(), "the kernel lists no hook");
        World::beside(all_ways_work);
        World::beside(rare_ways_work);
        module::unload_patiently();
        module::assert_nothing_left();
    }
}

#[test]
fn loading_twice_is_eexist() {
    World::run(|world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        let conn = world.connect(Family::V4, &listener, &toa(200, client), &[]);
        assert_eq!(module::load(""), Err(Errno::EEXIST));
        let told = libtoa::original(&conn.stream).unwrap().unwrap();
        assert_eq!(told.addr, client);
    });
}

#[test]
fn a_bad_parameter_is_einval_with_a_clear_line_and_leaves_nothing() {
    let _unloaded = module::Unloaded::now();
    for bad in ["hook=xyz", "hook=", "hook=ftraces", "hook=AUTO"] {
        let (result, lines) = kernel_log::during(|| module::load(bad));
        assert_eq!(result, Err(Errno::EINVAL), "{bad}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("hook") && lines[0].contains("auto, ftrace or kprobe"),
            "{lines:?}"
        );
        module::assert_nothing_left();
    }
}

#[test]
fn with_ftrace_off_loading_is_refused_clearly_unless_kprobes_serve() {
    let _unloaded = module::Unloaded::now();
    let Some(off) = node::ftrace_off() else {
        node::skip("this kernel cannot switch ftrace off");
        return;
    };
    for parameters in ["", "hook=ftrace", "hook=kprobe"] {
        if !node::KPROBES_WANT_FTRACE && parameters != "hook=ftrace" {
            module::load(parameters).unwrap();
            World::beside(all_ways_work);
            module::unload_patiently();
            continue;
        }
        let (result, lines) = kernel_log::during(|| module::load(parameters));
        assert_eq!(result, Err(Errno::EOPNOTSUPP), "{parameters}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("kernel.ftrace_enabled"), "{lines:?}");
        module::assert_nothing_left();
    }
    drop(off);
    module::load("").unwrap();
    World::beside(all_ways_work);
}

/// A kprobe registers then as ever, and never fires.
#[test]
fn with_kprobes_off_loading_is_refused_clearly_unless_ftrace_serves() {
    let _unloaded = module::Unloaded::now();
    let off = node::kprobes_off();
    let (result, lines) = kernel_log::during(|| module::load("hook=kprobe"));
    assert_eq!(result, Err(Errno::EOPNOTSUPP));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("kprobes/enabled"), "{lines:?}");
    module::assert_nothing_left();
    module::load("").unwrap();
    World::beside(all_ways_work);
    module::unload_patiently();
    drop(off);
    module::load("hook=kprobe").unwrap();
    World::beside(all_ways_work);
}

#[test]
fn while_loaded_ftrace_cannot_be_switched_off() {
    World::run(|world| {
        let result = fs::write("/proc/sys/kernel/ftrace_enabled", "0");
        let value = fs::read_to_string("/proc/sys/kernel/ftrace_enabled").unwrap();
        let _ = fs::write("/proc/sys/kernel/ftrace_enabled", "1");
        // EOPNOTSUPP: newer kernels never do.
        let errno = result.unwrap_err().raw_os_error();
        assert!(
            matches!(errno, Some(libc::EBUSY | libc::EOPNOTSUPP)),
            "{errno:?}"
        );
        assert_eq!(value.trim(), "1");
        all_ways_work(world);
    });
}

#[test]
fn unloading_with_live_connections_leaves_them_untouched() {
    World::run(|world| {
        let mut conns = Vec::new();
        for (kind, family) in [(200, Family::V4), (253, Family::V6)] {
            let listener = world.listen(family);
            let option = toa(kind, original(family, 7, 7));
            for n in 0..10 {
                let (syn, ack): (&[u8], &[u8]) = if n % 2 == 0 {
                    (&option, &[])
                } else {
                    (&[], &option)
                };
                conns.push(world.connect(family, &listener, syn, ack));
            }
            // One whose SYN has been seen, and whose ACK comes when the module is gone.
            let mut half = world.client(family, &listener);
            half.syn(&option).unwrap();
            half.recv_syn_ack().unwrap();
            let unloaded = module::Unloaded::now();
            half.ack(&[]).unwrap();
            let mut late = toa_vm_tests::Conn::accepted(half, &listener);
            late.exchange();
            for conn in &mut conns {
                conn.exchange();
                assert!(matches!(
                    libtoa::original(&conn.stream),
                    Err(Error::NotLoaded)
                ));
            }
            drop(unloaded);
            for conn in &mut conns {
                conn.exchange();
                assert_eq!(libtoa::original(&conn.stream).unwrap(), None);
            }
        }
        assert_eq!(sessions(), 0);
        // Sockets that were there before the module did close without a trace.
        drop(conns);
        all_ways_work(world);
    });
}

/// Connections with TOA in a namespace of their own, without end: one thread makes them, one
/// accepts them and asks about each, and others ask about the newest again and again, while it is
/// closed and reset. The option comes in the SYN, in the ACK and in the first data, in turn.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    /// Connections that have come and gone.
    done: AtomicUsize,
    /// Those of them that were told the right address; the others came without the module.
    told: AtomicUsize,
    /// Rounds of questions about the newest, and how many of them were told the right address.
    asked: AtomicUsize,
    answered: AtomicUsize,
    /// Answers that came from an option in the first data.
    by_data: AtomicUsize,
    /// How often the module was allowed to tell names, and forbidden again: odd while it may.
    naming: AtomicUsize,
    /// How often accept, getpeername and getsockname told the module's name and not the wire's.
    accept_named: AtomicUsize,
    peer_named: AtomicUsize,
    local_named: AtomicUsize,
    newest: Mutex<Option<Arc<Accepted>>>,
}

/// A connection, and its ends on the wire.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    server: SocketAddr,
}

impl Traffic {
    const ASKING: usize = 2;
    /// Connections that stand at a time.
    const OPEN: usize = 8;
    /// What a set in force with the kind 250 takes as the VIP of each connection.
    const VIP: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 80), 443));

    /// The client whose connection comes from this end of the load balancer's.
    fn client_of(peer: SocketAddr) -> SocketAddr {
        original(Family::V4, 7, peer.port())
    }

    /// Holds a name that was told against the wire's and the module's. The latter is counted, and right
    /// only if the module may have told it at some moment since `naming()` gave `before`.
    #[track_caller]
    fn judge(
        &self,
        before: usize,
        name: SocketAddr,
        [wires, modules]: [SocketAddr; 2],
        count: &AtomicUsize,
    ) {
        let after = self.naming();
        if name == modules && (before % 2 == 1 || before != after) {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            assert_eq!(name, wires);
        }
    }

    fn naming(&self) -> usize {
        self.naming.load(Ordering::SeqCst)
    }

    fn run(&self) {
        World::beside(|world| {
            let listener = world.listen(Family::V4);
            let (finished, done) = mpsc::channel();
            // What blocks ends with the traffic, whoever stops first.
            listener.set_nonblocking(true).unwrap();
            let mut open = thread::scope(|scope| {
                let _stop = StopAtEnd(&self.stop);
                scope.spawn(|| self.accept(&listener, &finished));
                for _ in 0..Self::ASKING {
                    scope.spawn(|| self.ask());
                }
                self.connect(world, &listener, &done)
            });
            // Nobody looks at them any more; without their other ends they would live on for minutes.
            open.iter_mut().for_each(|client| client.rst().unwrap());
            self.newest.lock().unwrap().take();
        });
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Makes connections until the end; what stands then.
    fn connect(
        &self,
        world: &World,
        listener: &TcpListener,
        done: &mpsc::Receiver<()>,
    ) -> VecDeque<Client> {
        let mut open: VecDeque<Client> = VecDeque::new();
        let mut n = 0;
        while !self.is_over() {
            // Ports come again; by then their connections have gone.
            let peer = SocketAddr::new(peer_ip(Family::V4), 20_000 + n);
            let options = [toa(200, Self::client_of(peer)), toa(250, Self::VIP)].concat();
            let mut client = world.client_from(peer, listener);
            let mut ways: [&[u8]; 3] = [&[]; 3];
            ways[usize::from(n % 3)] = &options;
            let [syn, ack, data] = ways;
            client.connect(syn, ack).unwrap();
            if !data.is_empty() {
                client.data_with(b"data", data).unwrap();
            }
            open.push_back(client);
            if open.len() == Self::OPEN {
                // They are accepted in their order.
                while let Err(error) = done.recv_timeout(Duration::from_millis(100)) {
                    assert_eq!(error, mpsc::RecvTimeoutError::Timeout, "nobody accepts");
                    if self.is_over() {
                        return open;
                    }
                }
                open.pop_front().unwrap().rst().unwrap();
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            n = (n + 1) % 20_000;
        }
        open
    }

    fn accept(&self, listener: &TcpListener, finished: &mpsc::Sender<()>) {
        let _stop = StopAtEnd(&self.stop);
        let port = listener.local_addr().unwrap().port();
        while !self.is_over() {
            if !wait_readable(listener, Duration::from_millis(100)) {
                continue;
            }
            let naming = self.naming();
            let (stream, name) = listener.accept().unwrap();
            // Either name has this port.
            let peer = SocketAddr::new(peer_ip(Family::V4), name.port());
            let client = Self::client_of(peer);
            self.judge(naming, name, [peer, client], &self.accept_named);
            let naming = self.naming();
            let name = stream.peer_addr().unwrap();
            self.judge(naming, name, [peer, client], &self.peer_named);
            match libtoa::original(&stream) {
                Ok(Some(told)) => {
                    assert_eq!((told.addr, told.peer), (client, peer));
                    self.told.fetch_add(1, Ordering::Relaxed);
                    let by_data = told.segment == Segment::Data;
                    self.by_data.fetch_add(by_data.into(), Ordering::Relaxed);
                }
                Ok(None) | Err(Error::NotLoaded) => {}
                Err(error) => panic!("{error}"),
            }
            let server = SocketAddr::new(server_ip(Family::V4), port);
            let accepted = Accepted {
                stream,
                peer,
                server,
            };
            *self.newest.lock().unwrap() = Some(Arc::new(accepted));
            if finished.send(()).is_err() {
                return;
            }
        }
    }

    fn ask(&self) {
        let _stop = StopAtEnd(&self.stop);
        // Whoever has something to do goes first, and interrupts a question wherever it is.
        // SAFETY: The call is about this thread.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
        Errno::result(result).unwrap();
        while !self.is_over() {
            let newest = self.newest.lock().unwrap().clone();
            let Some(newest) = newest else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            let Accepted {
                stream,
                peer,
                server,
            } = &*newest;
            let client = Self::client_of(*peer);
            for _ in 0..20 {
                match libtoa::original(stream) {
                    Ok(Some(told)) => {
                        assert_eq!((told.addr, told.peer), (client, *peer));
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        let by_data = told.segment == Segment::Data;
                        self.by_data.fetch_add(by_data.into(), Ordering::Relaxed);
                    }
                    Ok(None) | Err(Error::NotLoaded | Error::NotConnected) => {}
                    Err(error) => panic!("{error}"),
                }
                let naming = self.naming();
                match stream.peer_addr() {
                    Ok(name) => self.judge(naming, name, [*peer, client], &self.peer_named),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotConnected),
                }
                let naming = self.naming();
                let name = stream.local_addr().unwrap();
                self.judge(naming, name, [*server, Self::VIP], &self.local_named);
                let mut old = [0; 20];
                match sockopt::get(stream, libc::IPPROTO_IP, TOA_SO_GET_LOOKUP, &mut old) {
                    Err(Errno::EFAULT | Errno::EINVAL | Errno::ENOTCONN | Errno::ENOPROTOOPT) => {}
                    other => panic!("{other:?}"),
                }
                self.asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Sets the flag also where the owner panics, so that no thread is waited for in vain.
pub(super) struct StopAtEnd<'a>(pub(super) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn unloading_while_tasks_ask_without_pause() {
    const TASKS: usize = 4;
    const TIMES: usize = 5;
    World::run(|world| {
        let client = original(Family::V4, 7, 7);
        let listener = world.listen(Family::V4);
        // One for each: where tasks fight for one socket's lock, KCSAN can lock up. It waits with the lock for
        // what the other task saw, which was preempted by a third that spins for the lock.
        let conns =
            [(); TASKS].map(|()| world.connect(Family::V4, &listener, &toa(200, client), &[]));
        let stop = AtomicBool::new(false);
        let answers = AtomicUsize::new(0);
        let refused: usize = thread::scope(|scope| {
            for conn in &conns {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        match libtoa::original(&conn.stream) {
                            Ok(Some(told)) => assert_eq!(told.addr, client),
                            // From before the module was loaded again, or not loaded just now.
                            Ok(None) | Err(Error::NotLoaded) => {}
                            Err(error) => panic!("{error}"),
                        }
                        let mut old = [0; 20];
                        match sockopt::get(
                            &conn.stream,
                            libc::IPPROTO_IP,
                            TOA_SO_GET_LOOKUP,
                            &mut old,
                        ) {
                            Err(Errno::EFAULT | Errno::EINVAL | Errno::ENOPROTOOPT) => {}
                            other => panic!("{other:?}"),
                        }
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let _stop = StopAtEnd(&stop);
            let _unloaded = module::Unloaded::now_by(|| ());
            (0..TIMES)
                .map(|_| {
                    let before = answers.load(Ordering::Relaxed);
                    node::wait_until("questions", || {
                        answers.load(Ordering::Relaxed) > before + 100
                    });
                    let refused = module::unload_patiently();
                    module::load("").unwrap();
                    refused
                })
                .sum()
        });
        println!("{answers:?} questions; rmmod was told {refused} times that the module is in use");
    });
}

/// userfaultfd(2): a page whose first touch waits for the test.
pub(super) mod sleepy {
    use super::*;

    const UFFD_API: u64 = 0xaa;
    const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

    #[repr(C)]
    struct Api {
        api: u64,
        features: u64,
        ioctls: u64,
    }

    #[repr(C)]
    struct Range {
        start: u64,
        len: u64,
    }

    #[repr(C)]
    struct Register {
        range: Range,
        mode: u64,
        ioctls: u64,
    }

    #[repr(C)]
    struct ZeroPage {
        range: Range,
        mode: u64,
        zeroed: i64,
    }

    mod ioctl {
        use super::{Api, Register, ZeroPage};
        nix::ioctl_readwrite!(uffdio_api, 0xaa, 0x3f, Api);
        nix::ioctl_readwrite!(uffdio_register, 0xaa, 0x00, Register);
        nix::ioctl_readwrite!(uffdio_zeropage, 0xaa, 0x04, ZeroPage);
    }

    /// A page that nobody has touched yet.
    pub(crate) struct Page {
        uffd: OwnedFd,
        address: *mut libc::c_void,
        len: usize,
    }

    // SAFETY: The page is written by the kernel only, and read when it has done so.
    unsafe impl Sync for Page {}

    impl Page {
        pub(crate) fn new() -> Self {
            // SAFETY: No memory is involved.
            let uffd =
                unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
            let uffd = Errno::result(uffd).expect("the kernel has userfaultfd") as i32;
            // SAFETY: The descriptor was made just now.
            let uffd = unsafe { OwnedFd::from_raw_fd(uffd) };
            let mut api = Api {
                api: UFFD_API,
                features: 0,
                ioctls: 0,
            };
            // SAFETY: `api` is a whole structure of that call.
            unsafe { ioctl::uffdio_api(uffd.as_raw_fd(), &mut api) }.unwrap();
            let len = 4096;
            // SAFETY: A new mapping takes nobody's memory.
            let address = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            assert_ne!(address, libc::MAP_FAILED);
            let page = Self { uffd, address, len };
            let mut register = Register {
                range: page.range(),
                mode: UFFDIO_REGISTER_MODE_MISSING,
                ioctls: 0,
            };
            // SAFETY: `register` is a whole structure of that call; the range is this mapping.
            unsafe { ioctl::uffdio_register(page.uffd.as_raw_fd(), &mut register) }.unwrap();
            page
        }

        fn range(&self) -> Range {
            Range {
                start: self.address as u64,
                len: self.len as u64,
            }
        }

        pub(crate) fn address(&self) -> *mut libc::c_void {
            self.address
        }

        /// Waits until somebody sleeps on the page; dropping what it returns wakes them.
        pub(crate) fn wait_for_sleeper(&self) -> Sleeper<'_> {
            let sleeper = Sleeper(self);
            assert!(
                wait_readable(&self.uffd, PATIENCE),
                "nobody touched the page"
            );
            let mut message = [0; 32];
            let mut file = File::from(self.uffd.try_clone().unwrap());
            file.read_exact(&mut message).unwrap();
            const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
            assert_eq!(message[0], UFFD_EVENT_PAGEFAULT);
            sleeper
        }

        pub(crate) fn byte(&self, at: usize) -> u8 {
            assert!(at < self.len);
            let byte = self.address.cast::<u8>().wrapping_add(at);
            // SAFETY: Within the mapping, which was filled by now.
            unsafe { byte.read_volatile() }
        }
    }

    /// Somebody who sleeps on a page.
    pub(crate) struct Sleeper<'a>(&'a Page);

    impl Drop for Sleeper<'_> {
        fn drop(&mut self) {
            let mut zero = ZeroPage {
                range: self.0.range(),
                mode: 0,
                zeroed: 0,
            };
            // SAFETY: `zero` is a whole structure of that call; the range is this mapping.
            let woken = unsafe { ioctl::uffdio_zeropage(self.0.uffd.as_raw_fd(), &mut zero) };
            if let Err(errno) = woken {
                eprintln!("cannot wake who sleeps on the page: {errno}");
            }
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            // SAFETY: The mapping is this page's own, and nobody uses it any more.
            unsafe { libc::munmap(self.address, self.len) };
        }
    }
}

/// A task inside the call holds the module, however long; rmmod is told, and does not hang.
#[test]
fn unloading_while_a_task_sleeps_inside_the_call_is_refused() {
    World::run(|world| {
        let client = original(Family::V6, 7, 7);
        let listener = world.listen(Family::V4);
        for (name, size, first) in [(TOA_SO_ORIGINAL, 48, 1), (TOA_SO_GET_LOOKUP, 20, 0x20)] {
            let conn = world.connect(Family::V4, &listener, &toa(253, client), &[]);
            let page = sleepy::Page::new();
            thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    let mut len = size;
                    // SAFETY: the page is writable, and larger than the answer.
                    let result = unsafe {
                        sockopt::get_at(
                            &conn.stream,
                            libc::IPPROTO_IP,
                            name,
                            page.address(),
                            &mut len,
                        )
                    };
                    (result, len)
                });
                let sleeper = page.wait_for_sleeper();
                for _ in 0..3 {
                    let start = Instant::now();
                    assert_eq!(module::unload(), Err(Errno::EAGAIN));
                    assert!(start.elapsed() < Duration::from_secs(5), "rmmod hung");
                }
                let busy = cli::run(&["unload", "--wait", "1"]);
                assert_eq!(busy.code, 1, "{busy:?}");
                assert!(busy.stderr.contains("in use"), "{busy:?}");
                // Others are answered meanwhile.
                let told = libtoa::original(&conn.stream).unwrap();
                assert_eq!(told.map(|told| told.addr), Some(client));

                drop(sleeper);
                let answer = asking.join().unwrap();
                assert_eq!(answer, (Ok(()), size), "{name:x}");
                assert_eq!(page.byte(0), first);
            });
            let unloaded = module::Unloaded::now();
            module::assert_nothing_left();
            drop(unloaded);
        }
    });
}

/// Connections that a REDIRECT rule turned aside, in the calling thread's namespace.
struct Redirected {
    sockets: Vec<(i32, TcpStream)>,
    _others: Vec<(TcpListener, TcpStream)>,
    raw: OwnedFd,
}

/// Where the connections were going to.
const WANTED_V4: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 9, 9, 9), 80);
const WANTED_V6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9), 80);

impl Redirected {
    fn new() -> Self {
        let run = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let output = command(words[0]).args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        };
        run("ip link set lo up");
        run("nft add table inet aside");
        run("nft add chain inet aside output { type nat hook output priority -100 ; }");
        run("nft add rule inet aside output tcp dport 80 redirect to :8080");
        let mut sockets = Vec::new();
        let mut others = Vec::new();
        for (at, to, level) in [
            (
                SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
                SocketAddr::from(WANTED_V4),
                libc::SOL_IP,
            ),
            (
                (Ipv6Addr::LOCALHOST, 8080).into(),
                WANTED_V6.into(),
                libc::SOL_IPV6,
            ),
        ] {
            let listener = TcpListener::bind(at).unwrap();
            let client = TcpStream::connect(to).unwrap();
            let (accepted, _) = accept(&listener);
            sockets.push((level, accepted));
            others.push((listener, client));
        }
        // As iptables asks; loading its tables is what the first question does.
        run("modprobe -a ip_tables iptable_filter");
        let raw = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        );
        let redirected = Self {
            sockets,
            _others: others,
            raw: raw.unwrap(),
        };
        redirected.ask().expect("conntrack and iptables answer");
        redirected
    }

    /// Where the connection at this place was going to.
    fn ask_conntrack(&self, at: usize) -> Result<(), (i32, i32, Errno)> {
        let (level, socket) = &self.sockets[at];
        let mut address = [0; 28];
        sockopt::get(socket, *level, SO_ORIGINAL_DST, &mut address)
            .map_err(|errno| (*level, SO_ORIGINAL_DST, errno))?;
        assert_eq!(address[2..4], 80u16.to_be_bytes());
        if *level == libc::SOL_IP {
            assert_eq!(address[4..8], WANTED_V4.0.octets());
        } else {
            assert_eq!(address[8..24], WANTED_V6.0.octets());
        }
        Ok(())
    }

    /// One round of all questions.
    fn ask(&self) -> Result<(), (i32, i32, Errno)> {
        for at in 0..self.sockets.len() {
            self.ask_conntrack(at)?;
        }
        // `struct ipt_getinfo`: the table's name, then numbers.
        let mut info = [0; 84];
        info[..6].copy_from_slice(b"filter");
        sockopt::get(self.raw.as_fd(), libc::SOL_IP, IPT_SO_GET_INFO, &mut info)
            .map_err(|errno| (libc::SOL_IP, IPT_SO_GET_INFO, errno))?;
        Ok(())
    }
}

/// Asks all the while `work` runs; how often it was answered.
///
/// Where unloading makes others fail it is between two moments close to each other, and nothing
/// sleeps there. So one thread asks at real-time priority whenever its timer fires. A kernel that can be
/// preempted anywhere lets it in at any moment of the unloading, also on a single CPU; one that gives
/// up the CPU only of its own accord, as Debian's do by default, takes two for that. The suite
/// "unload" of scripts/test has both.
fn asked_all_the_while(redirected: &Redirected, work: impl FnOnce()) -> usize {
    let stop = AtomicBool::new(false);
    let asking = |ask: &dyn Fn() -> Result<(), (i32, i32, Errno)>, pause: Duration| {
        let mut rounds = 0;
        while !stop.load(Ordering::Relaxed) {
            if let Err((level, name, errno)) = ask() {
                panic!("level {level} option {name}: {errno}, after {rounds} rounds of answers");
            }
            rounds += 1;
            thread::sleep(pause);
        }
        rounds
    };
    let rounds = thread::scope(|scope| {
        let urgent = scope.spawn(|| {
            let priority = libc::sched_param { sched_priority: 1 };
            // SAFETY: `priority` is a whole structure of that call, which is about this thread.
            let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
            Errno::result(set).expect("a real-time priority");
            // On an emulated machine each time costs more than the pause; where there are fifty times as many
            // unloads, connections get the time.
            let pause = Duration::from_micros(usual_or_long(50, 1_500));
            asking(&|| redirected.ask_conntrack(0), pause)
        });
        let all = scope.spawn(|| asking(&|| redirected.ask(), Duration::from_micros(500)));
        let stop = StopAtEnd(&stop);
        work();
        drop(stop);
        urgent.join().unwrap().min(all.join().unwrap())
    });
    assert!(rounds > 100, "only {rounds} rounds of questions");
    rounds
}

/// Each namespace has counters of the module's, whichever of the two comes first, and goes first.
#[test]
fn network_namespaces_come_and_go_while_the_module_does() {
    const MAKERS: usize = 2;
    const TIMES: usize = 5;
    let option = toa(200, original(Family::V4, 7, 7));
    let made = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..MAKERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    World::beside(|world| {
                        let listener = world.listen(Family::V4);
                        drop(world.connect(Family::V4, &listener, &option, &[]));
                    });
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = StopAtEnd(&stop);
        let _unloaded = module::Unloaded::now();
        let more = || {
            let before = made.load(Ordering::Relaxed);
            node::wait_until("namespaces", || {
                made.load(Ordering::Relaxed) > before + MAKERS
            });
        };
        for _ in 0..TIMES {
            more();
            module::load("").unwrap();
            more();
            module::unload_patiently();
            module::assert_nothing_left();
        }
    });
    World::run(all_ways_work);
}

/// Connections come and go, tasks accept and ask, and others are asked where they were going to,
/// during all of it. nf_conntrack was there first: ours stands before it in the kernel's list.
#[test]
fn loaded_and_unloaded_under_load_and_so_original_dst_and_iptables_never_notice() {
    /// So many connections come and go in each round; a round takes a second or so.
    const CONNECTIONS: usize = 100;
    /// So many of them are told their address.
    const TOLD: usize = 30;
    const MODES: [&str; 8] = [
        "hook=auto",
        "hook=ftrace",
        "hook=kprobe",
        "hook=ftrace first_data=1",
        "hook=kprobe first_data=1",
        "hook=ftrace transparent=1",
        "hook=kprobe transparent=1",
        "transparent=1 first_data=1 transparent_local=1 layouts=200/8=client-v4,250/8=vip-v4",
    ];
    /// So many come and go in a second, at least, all the while that it takes, in each mode.
    const RATE: f64 = 100.0;
    /// The kernel's own caches have grown by then: each mode was there once.
    const WARM: usize = MODES.len() - 1;
    let times = usual_or_long(20, 1_000);
    module::ensure_fresh();
    let traffic = Traffic::default();
    World::beside(|_| {
        let redirected = Redirected::new();
        thread::scope(|scope| {
            scope.spawn(|| traffic.run());
            let _stop = StopAtEnd(&traffic.stop);
            let _unloaded = module::Unloaded::now();
            let began = Instant::now();
            let (mut refused, mut unloading) = (0, Duration::ZERO);
            let mut free = 0;
            let mut by_mode = [(0, Duration::ZERO); MODES.len()];
            let now = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            let rounds = asked_all_the_while(&redirected, || {
                for time in 0..times {
                    let mode = MODES[time % MODES.len()];
                    let (began, before) = (Instant::now(), now(&traffic.done));
                    let mut wanted = vec![(&traffic.told, TOLD), (&traffic.answered, 1)];
                    for (parameter, counts) in [
                        ("first_data=1", &[&traffic.by_data][..]),
                        (
                            "transparent=1",
                            &[&traffic.accept_named, &traffic.peer_named],
                        ),
                        ("transparent_local=1", &[&traffic.local_named]),
                    ] {
                        if mode.contains(parameter) {
                            wanted.extend(counts.iter().map(|count| (*count, 1)));
                        }
                    }
                    wanted
                        .iter_mut()
                        .for_each(|(count, wanted)| *wanted += now(count));
                    let naming = usize::from(mode.contains("transparent=1"));
                    traffic.naming.fetch_add(naming, Ordering::SeqCst);
                    module::load(mode).unwrap();
                    node::wait_until(&format!("{mode}: addresses, answers and names"), || {
                        wanted.iter().all(|(count, wanted)| now(count) >= *wanted)
                    });
                    let start = Instant::now();
                    refused += module::unload_patiently();
                    unloading += start.elapsed();
                    traffic.naming.fetch_add(naming, Ordering::SeqCst);
                    module::assert_nothing_left();
                    node::wait_until("connections", || now(&traffic.done) >= before + CONNECTIONS);
                    let (connections, took) = &mut by_mode[time % MODES.len()];
                    *connections += now(&traffic.done) - before;
                    *took += began.elapsed();
                    if time == WARM {
                        free = meminfo("MemAvailable");
                    }
                }
            });
            let took = began.elapsed();
            let Traffic {
                done,
                told,
                asked,
                answered,
                by_data,
                accept_named,
                peer_named,
                local_named,
                ..
            } = &traffic;
            let free_after = meminfo("MemAvailable");
            println!(
                "{times} times in {took:.0?}, {unloading:.0?} of it unloading, refused {refused} times; \
                 {done:?} connections, {told:?} of them told; {answered:?} of {asked:?} questions \
                 about the newest answered; {by_data:?} answers by first data; accept named \
                 {accept_named:?} clients, getpeername {peer_named:?}, getsockname {local_named:?} \
                 VIPs; {rounds} rounds of the others; available {free} kB, then {free_after} kB"
            );
            let mut slow = Vec::new();
            for (mode, (connections, took)) in MODES.iter().zip(by_mode) {
                let rate = connections as f64 / took.as_secs_f64();
                println!("{rate:.0} connections a second: {mode}");
                if rate < RATE {
                    slow.push(mode);
                }
            }
            // The usual run is too short to hold it against a machine that is busy otherwise.
            assert!(
                !node::is_long() || slow.is_empty(),
                "fewer than {RATE} connections a second: {slow:?}"
            );
            // A table that each round left behind would be 10 MB after 20, and half a gigabyte after
            // a thousand. Sanitizers keep records of what is freed, and take it out of use for a while.
            assert!(
                node::counts_its_memory() || free_after + 8_000 > free,
                "from {free} kB to {free_after} kB"
            );
        });
    });
    settle();
    World::run(all_ways_work);
}

/// nf_conntrack came later: it stands before ours.
#[test]
fn they_answer_too_where_their_modules_were_loaded_after_ours() {
    World::run(|world| {
        let _ = world;
        remove_netfilter();
        let redirected = Redirected::new();
        asked_all_the_while(&redirected, || {
            thread::sleep(Duration::from_millis(100));
            let unloaded = module::Unloaded::now();
            thread::sleep(Duration::from_millis(100));
            drop(unloaded);
            thread::sleep(Duration::from_millis(100));
        });
    });
}

/// Unloads nf_conntrack, ip_tables and all that uses them.
fn remove_netfilter() {
    let ours = |name: &str| {
        ["nf_", "nft_", "xt_", "x_tables", "ip_tables", "iptable_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let gone = || {
        ["nf_conntrack", "ip_tables"]
            .iter()
            .all(|name| !Path::new("/sys/module").join(name).exists())
    };
    // Namespaces of earlier tests hold them until the kernel has taken them down.
    node::wait_until("nf_conntrack and ip_tables are unloaded", || {
        let modules = fs::read_to_string("/proc/modules").unwrap();
        for line in modules.lines() {
            let name = line.split_whitespace().next().unwrap();
            if ours(name) {
                let _ = command("rmmod").arg(name).output();
            }
        }
        gone()
    });
}
