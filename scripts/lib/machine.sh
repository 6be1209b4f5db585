# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The virtual machine: a stock kernel in QEMU on the host's own files. The caller sets the
# machine_* variables below and calls machine_run.

machine_cpus=1
machine_memory=2G
machine_accel=tcg
machine_icount=no # yes: the machine's clock counts its instructions, one each nanosecond
machine_timeout=3600
machine_append='' # more of the kernel's command line
machine_path=()   # folders in front of the machine's PATH
machine_env=()    # NAME=VALUE for the command
machine_module='' # a module to load first
machine_param=()  # its parameters

# What on the console means that the kernel is not well. A user process that faults is
# reported in a line with "traps:", and is its own affair.
machine_fault='Kernel panic|(^|[^[:alpha:]])BUG: |Oops|general protection fault|WARNING: |soft lockup|hard LOCKUP'
machine_fault+='|INFO: .*(self-detected stall|detected stalls|detected expedited stalls)'
machine_fault+='|possible (circular|recursive) locking|inconsistent .*lock state|suspicious RCU usage'
machine_fault+='|INFO: task .* blocked|Internal error: |UBSAN: |refcount_t: |unregister_netdevice: waiting'
# KASAN's and KCSAN's reports, and most of lockdep's, are BUGs or WARNINGs; these are not.
machine_fault+='|INFO: trying to register non-static key|ODEBUG: |kmemleak: [0-9]+ new suspected memory leaks'
machine_fault+='|kmemleak: .* detector disabled|turning off the locking correctness validator'

machine_packages() {
    need_packages qemu-system-x86 busybox-static kmod xz-utils
}

# machine_initramfs KERNEL_FOLDER: the part that is the same for each run of one kernel.
machine_initramfs() {
    local kernel=$1 release work needed name file count=0
    release=$(<"$kernel/release")
    work=$kernel/initramfs.d
    rm -rf "$work"
    mkdir -p "$work/bin" "$work/modules"
    if [ -n "$machine_guest" ]; then
        cp "$machine_guest/usr/bin/busybox" "$work/bin/busybox"
    else
        cp "$(busybox_static)" "$work/bin/busybox"
    fi
    needed=$(
        for name in virtio_pci 9pnet_virtio 9p overlay virtio_console; do
            /sbin/modprobe --dirname "$kernel" --set-version "$release" --show-depends "$name" || exit
        done
    ) || die "$kernel has not all modules that it takes to mount the host's files"
    : >"$work/modules/list"
    while read -r file; do
        count=$((count + 1))
        case $file in
            *.xz) xz --decompress --stdout "$file" ;;
            *.zst) zstd --decompress --quiet --stdout "$file" ;;
            *) cat "$file" ;;
        esac >"$work/modules/$count.ko"
        echo "$count.ko" >>"$work/modules/list"
    # What is built in has another first word.
    done < <(sed -n 's/^insmod \([^ ]*\).*/\1/p' <<<"$needed" | awk '!seen[$0]++')
    machine_cpio "$work" >"$kernel/initramfs.new"
    rm -rf "$work"
    mv "$kernel/initramfs.new" "$kernel/initramfs"
}

busybox_static() {
    command -v /usr/bin/busybox || command -v /bin/busybox
}

machine_cpio() {
    (cd "$1" && find . | "$(busybox_static)" cpio -o -H newc 2>/dev/null)
}

# machine_command COMMAND...: the script that the machine runs.
machine_command() {
    local name
    # A server's limit: each connection is a descriptor.
    printf 'cd %q || exit 125\nulimit -n 65536\n' "$PWD"
    for name in HOME LANG NO_COLOR RUST_BACKTRACE RUST_LOG; do
        [ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
    done
    for name in "${machine_path[@]}"; do
        # shellcheck disable=SC2016
        printf 'PATH=%q:$PATH\n' "$name"
    done
    for name in "${machine_env[@]}"; do
        printf 'export %s=%q\n' "${name%%=*}" "${name#*=}"
    done
    if [ -n "$machine_module" ]; then
        printf 'load=(/sbin/insmod); ! command -v toa-cli >/dev/null || load=(toa-cli load --module)\n'
        # stdout is the command's own.
        # shellcheck disable=SC2016
        printf '"${load[@]}"'
        printf ' %q' "$machine_module" "${machine_param[@]}"
        printf ' >&2 || { echo "the module could not be loaded" >&2; dmesg | grep "toa: " | tail -n 5 >&2; exit 125; }\n'
    fi
    printf 'exec'
    printf ' %q' "$@"
    printf '\n'
}

# under FOLDER PATH...: whether one of the paths lies below the folder.
under() {
    local folder=$1 path
    shift
    for path; do
        case $path/ in "$folder"/*) return 0 ;; esac
    done
    return 1
}

# machine_shared PATH...: those that a node with files of its own has to be given.
machine_shared() {
    local path
    for path; do
        [ -d "$path" ] || path=${path%/*}
        [ -z "$path" ] || [ -e "$machine_guest$path" ] || printf '%s\n' "$path"
    done
}

machine_accel_options() {
    local version
    if [ "$machine_arch" != amd64 ]; then
        [ "$machine_accel" = tcg ] || usage_error "--accel $machine_accel: this machine can only emulate $machine_arch"
        # The architecture's own way to sign pointers costs an emulator half of its time.
        printf '%s\n' -machine virt -accel tcg -cpu max,pauth-impdef=on
        return
    fi
    printf '%s\n' -machine q35
    case $machine_accel in
        kvm) printf '%s\n' -accel kvm -cpu host ;;
        tcg)
            # Two threads of QEMU before 8 can run half-patched kernel text.
            version=$(qemu-system-x86_64 --version | sed -n '1s/^QEMU emulator version \([0-9]*\).*/\1/p')
            if [ "$machine_cpus" -gt 1 ] && [ "${version:-0}" -lt 8 ]; then
                printf '%s\n' -accel tcg,thread=single
            else
                printf '%s\n' -accel tcg
            fi
            # Five-level page tables cost a software MMU a fifth of its walks.
            # Where instructions are counted, each repetition of a string instruction is counted too,
            # so the kernel is to clear and copy memory by others.
            if [ "$machine_icount" = no ]; then
                printf '%s\n' -cpu max,la57=off
            else
                printf '%s\n' -cpu max,la57=off,erms=off,fsrm=off
            fi
            ;;
        *) usage_error "--accel takes tcg or kvm, not '$machine_accel'" ;;
    esac
}

# machine_run KERNEL_FOLDER COMMAND...: boot, run, and return the command's status; 124
# when the time is over, 125 when the machine itself failed.
machine_run() {
    local kernel=$1 release status='' accel qemu console
    shift
    release=$(<"$kernel/release")
    machine_guest='' qemu=qemu-system-x86_64 console=ttyS0
    machine_arch=$(kernel_arch "${kernel##*/}")
    if [ "$machine_arch" != amd64 ]; then
        machine_guest=$(foreign_guest "$(kernel_value "${kernel##*/}" suite)" "$machine_arch")
        qemu=qemu-system-aarch64 console=ttyAMA0
        need_packages qemu-system-arm
    fi
    [ -s "$kernel/initramfs" ] || machine_initramfs "$kernel"

    machine_dir=$(mktemp -d "$TOA_CACHE/run.XXXXXX")
    machine_log=$TOA_CACHE/log/console.$BASHPID.log
    mkdir -p "$TOA_CACHE/log"
    find "$TOA_CACHE/log" -name 'console.*.log' -mtime +3 -delete
    machine_pid='' machine_relays=()
    trap machine_stop EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    local here fresh_tmp=yes one_stream=no
    # On one terminal or pipe the two streams keep their order only if they are one.
    ! [ /proc/self/fd/1 -ef /proc/self/fd/2 ] || one_stream=yes
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    ! under /tmp "$PWD" "$TOA_CACHE" "$TOA_REPO" "$here" "${machine_path[@]}" "$machine_module" || fresh_tmp=no
    if under /run "$PWD" "$TOA_CACHE" "$TOA_REPO" "${machine_path[@]}"; then
        die "the machine has a /run of its own: the folder it starts in, the repository and the cache cannot lie there"
    fi
    mkdir "$machine_dir/first"
    install -m 0755 "$here/guest/init" "$here/guest/node" "$machine_dir/first/"
    machine_command "$@" >"$machine_dir/first/command"
    printf '%s\n' "modules=$kernel/lib/modules/$release" "fresh_tmp=$fresh_tmp" "one_stream=$one_stream" \
        "guest=$machine_guest" >"$machine_dir/first/settings"
    [ -z "$machine_guest" ] ||
        machine_shared "$TOA_REPO" "$TOA_CACHE" "$PWD" "${machine_path[@]}" "$machine_module" >"$machine_dir/first/shared"
    { cat "$kernel/initramfs" && machine_cpio "$machine_dir/first"; } >"$machine_dir/initramfs"

    # The ports' data goes through pipes of our own: QEMU would truncate the caller's file.
    mkfifo "$machine_dir/stdout" "$machine_dir/stderr" "$machine_dir/never"
    cat "$machine_dir/stdout" &
    machine_relays=($!)
    cat "$machine_dir/stderr" >&2 &
    machine_relays+=($!)

    mapfile -t accel < <(machine_accel_options)
    # A machine with nothing to do jumps to its next timer instead of waiting for it.
    [ "$machine_icount" = no ] || accel+=(-icount "shift=0,sleep=off")
    : >"$machine_log"
    "$qemu" -nodefaults -no-user-config -display none -no-reboot \
        "${accel[@]}" -smp "$machine_cpus" -m "$machine_memory" \
        -kernel "$kernel/vmlinuz" -initrd "$machine_dir/initramfs" \
        -append "console=$console loglevel=5 panic=-1 mitigations=off random.trust_cpu=on $machine_append" \
        -chardev "file,id=console,path=$machine_log,append=on" -serial chardev:console \
        -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=host,mount_tag=host \
        -device virtio-serial-pci \
        -chardev "file,id=stdout,path=$machine_dir/stdout" -device virtserialport,chardev=stdout,name=stdout \
        -chardev "file,id=stderr,path=$machine_dir/stderr" -device virtserialport,chardev=stderr,name=stderr \
        -chardev "file,id=status,path=$machine_dir/status" -device virtserialport,chardev=status,name=status \
        </dev/null >"$machine_dir/qemu" 2>&1 &
    machine_pid=$!

    machine_watch
    kill "$machine_pid" 2>/dev/null || true
    wait "$machine_pid" 2>/dev/null || true
    machine_pid=''
    machine_read_console
    # Where QEMU did not come as far as opening the pipes, their readers still wait.
    exec 5<>"$machine_dir/stdout" 6<>"$machine_dir/stderr"
    exec 5>&- 6>&-
    wait "${machine_relays[@]}" || true
    machine_relays=()

    # A report that the machine's end has cut short.
    [ ${#machine_race[@]} -eq 0 ] || machine_judge_race
    [ "$machine_races" -eq 0 ] ||
        say "KCSAN reported $machine_races races of the kernel's own, none with the module in it; they are in $machine_log"
    [ ! -s "$machine_dir/status" ] || status=$(<"$machine_dir/status")
    if [ ${#machine_report[@]} -gt 0 ]; then
        say "the kernel reported a fault:"
        printf '    %s\n' "${machine_report[@]:0:150}" >&2
        say "the whole console is in $machine_log"
        return 125
    elif [ "$machine_late" = yes ]; then
        say "the command did not end within $machine_timeout seconds; the console is in $machine_log"
        return 124
    elif [ -z "$status" ]; then
        say "the machine stopped before the command had ended"
        cat "$machine_dir/qemu" >&2
        say "the end of its console, $machine_log:"
        tail -n 40 "$machine_log" >&2
        return 125
    fi
    return "$status"
}

# machine_watch: until QEMU ends, the time is over, or a fault has been reported whole.
machine_watch() {
    local deadline=$((SECONDS + machine_timeout)) fault_deadline='' _
    machine_report=() machine_late=no machine_up=no machine_partial='' machine_race=() machine_races=0
    exec 7<>"$machine_dir/never" 8<"$machine_log"
    while kill -0 "$machine_pid" 2>/dev/null; do
        machine_read_console
        # The fault's registers and call trace follow its first line.
        if [ ${#machine_report[@]} -gt 0 ]; then
            : "${fault_deadline:=$((SECONDS + 3))}"
            [ "$SECONDS" -lt "$fault_deadline" ] || return 0
        elif [ "$SECONDS" -ge "$deadline" ]; then
            machine_late=yes
            return
        fi
        # Sleeps without a process; nothing is ever written there.
        read -r -t 0.1 _ <&7 || true
    done
}

# machine_read_console: look at what the console has printed since the last time.
machine_read_console() {
    local chunk line
    while :; do
        if ! IFS= read -r chunk <&8; then
            machine_partial+=$chunk
            return 0
        fi
        line=${machine_partial}${chunk%$'\r'}
        machine_partial=''
        if [ "$machine_up" = no ]; then
            [[ $line != *'toa-vm: the node starts'* ]] || machine_up=yes
        elif [ ${#machine_report[@]} -gt 0 ]; then
            machine_report+=("$line")
        elif [[ $line == *'BUG: KCSAN: '* ]]; then
            machine_race=("$line")
        elif [ ${#machine_race[@]} -gt 0 ] && ! [[ $line =~ $machine_fault ]]; then
            machine_race+=("$line")
            [[ $line != *'=========='* ]] || machine_judge_race
        elif [[ $line =~ $machine_fault && $line != *'traps: '* ]]; then
            machine_report+=("$line")
        fi
    done
}

# machine_judge_race: KCSAN has reported a race, whole. The kernel has many of its own; it is a fault if
# the module stands in one of the stacks, but for what an interrupt happened to come upon.
machine_judge_race() {
    local line interrupted=no
    for line in "${machine_race[@]}"; do
        case $line in
            *' to 0x'*' by '*) interrupted=no ;;
            *' asm_sysvec_'* | *' asm_common_interrupt+'*) interrupted=yes ;;
            *'[toa]'*)
                [ "$interrupted" = yes ] || machine_report=("${machine_race[@]}")
                ;;
        esac
    done
    [ ${#machine_report[@]} -gt 0 ] || machine_races=$((machine_races + 1))
    machine_race=()
}

machine_stop() {
    [ -z "$machine_pid" ] || kill -KILL "$machine_pid" 2>/dev/null || true
    [ ${#machine_relays[@]} -eq 0 ] || kill "${machine_relays[@]}" 2>/dev/null || true
    rm -rf "$machine_dir"
}
