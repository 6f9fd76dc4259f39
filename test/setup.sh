#!/usr/bin/env bash
# Installs the real programs the tests use, where they are missing and where
# that is possible: as root or with a sudo that asks nothing, on a machine with
# apt-get. Elsewhere it says what is missing; tests then skip what they lack,
# unless NEXD_TEST_REQUIRE is set.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin

# A program (or a file's pattern), and the Debian packages that bring it, the
# preferred one first.
needs='
nft                              nftables
ip                               iproute2
ss                               iproute2
mount                            mount
nginx                            nginx-light nginx
psql                             postgresql-client postgresql
/usr/lib/postgresql/*/bin/initdb postgresql
/usr/lib/postgresql/*/bin/pgbench postgresql-contrib postgresql
redis-server                     redis-server
redis-benchmark                  redis-tools
dig                              bind9-dnsutils dnsutils
dnsmasq                          dnsmasq-base dnsmasq
iperf3                           iperf3
nc.openbsd                       netcat-openbsd
socat                            socat
sshd                             openssh-server
ssh                              openssh-client
rsync                            rsync
curl                             curl
tcpdump                          tcpdump
tshark                           tshark
wireguard-go                     wireguard-go
wg                               wireguard-tools
ethtool                          ethtool
miniupnpd                        miniupnpd-nftables
git                              git
gcc                              gcc
/usr/include/stdlib.h            libc6-dev
'

have() {
  case $1 in
  /*) compgen -G "$1" >/dev/null ;;
  *) command -v "$1" >/dev/null ;;
  esac
}

# missing prints the choices of packages for each need that is not met.
missing() {
  local program packages
  while read -r program packages; do
    [ -z "$program" ] || have "$program" || echo "$packages"
  done <<<"$needs" | sort -u
}

give_up() {
  echo "Missing for the tests: $(missing | awk '{printf "%s ", $1}')" >&2
  echo "$1" >&2
  [ -z "${NEXD_TEST_REQUIRE:-}" ] || exit 1
  exit 0
}

[ -n "$(missing)" ] || exit 0
command -v apt-get >/dev/null || give_up "There is no apt-get here: install what offers these. Tests that need them are skipped."
if [ "$(id -u)" -eq 0 ]; then
  as_root() { env "$@"; }
elif sudo -n true 2>/dev/null; then
  as_root() { sudo -n env "$@"; }
else
  give_up "Run this once as root, or: sudo apt-get install $(missing | awk '{printf "%s ", $1}')"
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=
cleanup() {
  rm -f "$log"
  [ -z "$made_policy" ] || as_root rm -f "$policy"
}
trap cleanup EXIT

# The servers are for tests to start: they must not take ports of this machine
# by themselves while they are installed.
if [ ! -e "$policy" ]; then
  made_policy=1
  as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
fi

# choose prints, for each need, the first of its packages that exists here.
choose() {
  local choices name
  missing | while read -r choices; do
    for name in $choices; do
      if apt-cache show "$name" >/dev/null 2>&1; then
        echo "$name"
        break
      fi
    done
  done | sort -u
}

# apt waits for another one that runs, as a machine's own after its first start,
# and asks a mirror that does not answer again.
apt() { as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null; }

# install does what it can with the package lists at hand.
install() {
  local packages
  mapfile -t packages < <(choose)
  [ "${#packages[@]}" -gt 0 ] || return 1
  echo "installing ${packages[*]}"
  apt -y --no-install-recommends install "${packages[@]}" >"$log" 2>&1
}

install || echo "the package lists are missing or old: fetching them"
if [ -n "$(missing)" ]; then
  apt update || echo "the package lists cannot be fetched" >&2
  install || cat "$log" >&2
fi
[ -z "$(missing)" ] || give_up "Installing did not bring them; what it said stands above."
