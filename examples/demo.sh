#!/usr/bin/env bash
# The main job on one machine, with nothing but the two binaries: the control
# service, a proxy that offers a web server to the mesh, a proxy that brings it
# to a local port, and a request through both. KEEP=1 leaves it all running and says how to stop it.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$PWD/bin
dir=$(mktemp -d "${TMPDIR:-/tmp}/nexd-demo.XXXXXX")
pids=()

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '  $ %s\n' "$*"; }

stop() {
  local status=$? pid
  trap - EXIT
  # The last started ends first, so that the proxies can say goodbye.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    pid=${pids[i]}
    kill -TERM "$pid" 2>/dev/null || continue
    wait "$pid" 2>/dev/null || true
  done
  if [ "$status" -ne 0 ]; then
    echo "The demo failed. What the parts said:" >&2
    tail -n 20 "$dir"/*.log >&2 || true
  fi
  rm -rf "$dir"
  [ "$status" -ne 0 ] || say "Everything is stopped, nothing is left behind."
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT TERM

# As root the parts run as nobody, to show that they need no privilege.
chmod 755 "$dir"
mkdir -m 700 "$dir/service" "$dir/server" "$dir/client"
plain=()
if [ "$(id -u)" -eq 0 ]; then
  chown 65534:65534 "$dir/service" "$dir/server" "$dir/client"
  cp "$bin/nexd" "$bin/nexctl" "$dir/" # the checkout may be closed to nobody
  bin=$dir
  plain=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs)
fi
CGO_ENABLED=0 go build -trimpath -o "$dir/hello" ./examples/hello
chmod 755 "$dir/hello"

start() { # name command...
  local name=$1
  shift
  "${plain[@]}" "$@" >"$dir/$name.log" 2>&1 </dev/null &
  pids+=($!)
}
until_ok() { # what command...
  local what=$1
  shift
  for _ in $(seq 1 200); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  echo "$what: not within 20 s" >&2
  "$@" >&2 || true
  return 1
}

free=$("$dir/hello" ports 4)
read -r api stun web local <<<"$free"

say "1. The control service, on its embedded database"
show "nexd serve --listen 127.0.0.1:$api --stun-listen 127.0.0.1:$stun"
start service "$bin/nexd" serve --listen "127.0.0.1:$api" --stun-listen "127.0.0.1:$stun" \
  --public-url "https://127.0.0.1:$api" --state-dir "$dir/service"
until_ok "the service" "${plain[@]}" "$bin/nexctl" --admin-file "$dir/service/admin.json" device list

say "2. A registration key"
show "nexctl reg-key create"
key=$("${plain[@]}" "$bin/nexctl" --admin-file "$dir/service/admin.json" reg-key create)
echo "  ${key%%#*}#…"

say "3. A web server that knows nothing of it, offered to the mesh"
start web "$dir/hello" serve "127.0.0.1:$web"
show "nexd proxy --ingress tcp:80:127.0.0.1:$web"
start server env NEXD_REG_KEY="$key" "$bin/nexd" proxy --state-dir "$dir/server" --unix-socket "$dir/server/nexd.sock" \
  --hostname server --ingress "tcp:80:127.0.0.1:$web"

say "4. The same web server, brought to a local port by another proxy"
show "nexd proxy --egress tcp:$local:server:80"
start client env NEXD_REG_KEY="$key" "$bin/nexd" proxy --state-dir "$dir/client" --unix-socket "$dir/client/nexd.sock" \
  --hostname client --egress "tcp:$local:server:80"
ctl=("${plain[@]}" "$bin/nexctl" --unix-socket "$dir/client/nexd.sock")
until_ok "the server's proxy" "${plain[@]}" "$bin/nexctl" --unix-socket "$dir/server/nexd.sock" nexd wait --for ready --timeout 15s
until_ok "the client's proxy" "${ctl[@]}" nexd wait --for ready --timeout 15s

say "5. A request through both"
show "curl http://127.0.0.1:$local/through-the-mesh"
answer=$("$dir/hello" get "http://127.0.0.1:$local/through-the-mesh")
echo "  $answer"
case $answer in *"asked for /through-the-mesh"*) ;; *) echo "that is not the web server's answer" >&2; exit 1 ;; esac

say "6. The path it took"
show "nexctl nexd status"
"${ctl[@]}" nexd wait --for direct:server --timeout 20s >/dev/null
"${ctl[@]}" nexd status | sed 's/^/  /'

if [ -n "${KEEP:-}" ]; then
  trap - EXIT INT TERM
  # The last started ends first, so that the proxies can say goodbye.
  {
    echo '#!/bin/sh'
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
      echo "kill -TERM ${pids[i]} 2>/dev/null; while kill -0 ${pids[i]} 2>/dev/null; do sleep 0.1; done"
    done
    echo "rm -rf '$dir'"
  } >"$dir/stop"
  chmod 755 "$dir/stop"
  say "It is left running. How to reach each part:"
  cat <<TEXT
  web server through the mesh   http://127.0.0.1:$local/
  web server itself             http://127.0.0.1:$web/
  client's daemon               $bin/nexctl --unix-socket $dir/client/nexd.sock nexd status
  server's daemon               $bin/nexctl --unix-socket $dir/server/nexd.sock nexd status
  the service                   $bin/nexctl --admin-file $dir/service/admin.json device list
  another member                NEXD_REG_KEY='$key' $bin/nexd proxy --state-dir DIR …
  logs                          $dir/*.log
  stop and remove it all        $dir/stop
TEXT
fi
