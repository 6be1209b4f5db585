# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Where this machine gets its packages from. Build roots use the same mirror, so they work
# wherever apt works. apt itself is asked: it reads both formats of its configuration.

# mirror_targets: "address suite component origin", one line per index that apt knows.
mirror_targets() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages'
}

host_codename() {
    (
        VERSION_CODENAME=''
        # shellcheck source=/dev/null
        . /etc/os-release
        printf '%s\n' "$VERSION_CODENAME"
    )
}

# Another vendor may use Debian's suite and component names, so an index that says that it
# is Debian's goes first. (Before the first update none says anything.)
mirror_pick() {
    awk -v suites="$1" '
        BEGIN { n = split(suites, names, " "); for (i = 1; i <= n; i++) wanted[names[i]] = 1 }
        !($2 in wanted) || $3 != "main" || $1 !~ /^(https?|file|ftp):/ { next }
        $4 == "Debian" && !debian { debian = $1 }
        !any { any = $1 }
        END { print debian ? debian : any }' < <(mirror_targets)
}

# mirror_main: the address of the mirror, or nothing.
mirror_main() {
    local codename
    codename=$(host_codename)
    mirror_pick "$codename stable oldstable testing"
}

# mirror_security: the address of the security mirror, or nothing.
mirror_security() {
    local codename
    codename=$(host_codename)
    mirror_pick "$codename-security stable-security oldstable-security"
}

# mirror_proxy: apt's own settings for proxies, as lines of its configuration.
mirror_proxy() {
    apt-config dump | grep -iE '^Acquire::(http|https)::(Proxy|Verify|CaInfo)' || true
}
