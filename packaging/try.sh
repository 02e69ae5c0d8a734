#!/bin/sh
# Installs the three packages on a fresh Debian 12, as its administrator would, and sees each of them run.
# Usage: try.sh DIRECTORY, as root, on a machine that may be thrown away: `cargo xtask package --try` makes one.
set -eu
packages=$1
export DEBIAN_FRONTEND=noninteractive

step() { printf '%s\n' "== $*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
# Repeats a command for a minute until it succeeds.
eventually() {
    tries=0
    until "$@" > /dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || fail "did not succeed within a minute: $*"
        sleep 0.2
    done
}
as_ada() { runuser -u ada -- env -u XDG_RUNTIME_DIR HOME=/home/ada "$@"; }
as_relay() { runuser -u postern-relay -- "$@"; }

step "install"
apt-get update -qq
apt-get install -y -qq "$packages"/postern-agent_*.deb "$packages"/postern-desktop_*.deb "$packages"/postern-relay_*.deb > /tmp/install.log 2>&1 ||
    { tail -n 30 /tmp/install.log; fail "apt-get install"; }
for package in postern-agent postern-desktop postern-relay; do
    [ "$(dpkg-query -W -f '${Status}' "$package")" = "install ok installed" ] || fail "$package is not installed"
done
postern --version
postern-desktop --version
postern-relay --version

step "the relay: its own user, made ready, checked, serving"
[ "$(stat -c '%U %a' /etc/postern)" = "postern-relay 700" ] || fail "/etc/postern is not the relay's alone"
as_relay postern-relay init /etc/postern
as_relay postern-relay --config /etc/postern/relay.toml check
as_relay postern-relay --config /etc/postern/relay.toml serve > /tmp/relay.log 2>&1 &
relay=$!
eventually grep -q '"event":"ready"' /tmp/relay.log
as_relay postern-relay --config /etc/postern/relay.toml sessions || fail "the relay's admin socket does not answer"

step "the agent: started, asked, stopped, by a person without rights"
id -u ada > /dev/null 2>&1 || useradd --create-home ada
as_ada postern agent start
as_ada postern status
as_ada postern doctor --json > /tmp/doctor.json || true    # nobody is signed in: it has something to say
grep -q '"check"' /tmp/doctor.json || fail "the doctor said nothing"

step "the desktop: its window on a screen in memory"
apt-get install -y -qq --no-install-recommends xvfb xauth dbus x11-utils > /tmp/screen.log 2>&1 ||
    { tail -n 30 /tmp/screen.log; fail "apt-get install xvfb"; }
cat > /tmp/window.sh <<'W'
postern-desktop &
desktop=$!
tries=0
until xwininfo -root -tree | grep -q '"Postern"'; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || exit 1
    sleep 0.2
done
xwininfo -root -tree | grep '"Postern"'
kill "$desktop"
W
as_ada xvfb-run -a dbus-run-session -- sh /tmp/window.sh 2> /tmp/window.log || { tail -n 30 /tmp/window.log; fail "no window"; }
as_ada postern agent stop

step "the packages go as they came"
kill "$relay"
wait "$relay" || true
apt-get purge -y -qq postern-agent postern-desktop postern-relay > /tmp/purge.log 2>&1 ||
    { tail -n 30 /tmp/purge.log; fail "apt-get purge"; }
[ -e /etc/postern/keys ] || fail "the relay's keys went with its package"
printf '%s\n' "The packages install, run and go on $(. /etc/os-release && printf '%s' "$PRETTY_NAME")."
