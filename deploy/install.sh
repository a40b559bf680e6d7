# Sourced by deploy/up and e2e/run: what a fresh Debian lacks to build and run a cluster.

# Debian packages that lack their command or file: needed COMMAND-OR-PATH:PACKAGE…
missing_packages() {
    for pair in "$@"; do
        case "$pair" in
        /*) [ -e "${pair%%:*}" ] || printf ' %s' "${pair##*:}" ;;
        *) PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || printf ' %s' "${pair##*:}" ;;
        esac
    done
}

# Installs the packages a cluster needs, and those named in further COMMAND-OR-PATH:PACKAGE arguments.
install_packages() {
    missing=$(missing_packages etcd:etcd-server etcdctl:etcd-client containerd:containerd runc:runc nft:nftables iptables:iptables \
        conntrack:conntrack ip:iproute2 /usr/lib/cni/ptp:containernetworking-plugins busybox:busybox-static protoc:protobuf-compiler \
        /usr/include/google/protobuf/descriptor.proto:libprotobuf-dev gcc:gcc make:make /usr/include/stdlib.h:libc6-dev curl:curl \
        /etc/ssl/certs/ca-certificates.crt:ca-certificates "$@")
    [ -n "$missing" ] || return 0
    echo "Installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Puts cargo on the PATH, from rustup where there is none.
install_rust() {
    [ -r "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    command -v cargo >/dev/null 2>&1 && return 0
    echo "Installing Rust"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
    . "$HOME/.cargo/env"
}
