#!/usr/bin/env bash
# Four validators in network namespaces, cut apart 3|1 and 2|2 and joined again: with a quorum the chain goes on, without one it
# stops, joined it goes on everywhere, and it is one chain. Needs root, iproute2 and curl; about two minutes.
#
#   cargo build --release && sudo tools/ledger/partitions.sh target/release/dn
set -euo pipefail

dn=${1:?the dn program}
work=$(mktemp -d)
tag=dnp$$
pids=()

cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for i in 0 1 2 3; do ip netns del "$tag-$i" 2>/dev/null || true; done
    ip link del "${tag}a" 2>/dev/null || true
    ip link del "${tag}b" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

fail() { echo "FAILED: $*" >&2; tail -n 5 "$work"/*.log >&2; exit 1; }

# The genesis of a local network; its validators' keys follow from their numbers.
"$dn" ledger local --validators 4 --data-dir "$work/local" --json >"$work/up" &
maker=$!
for _ in $(seq 300); do [ -s "$work/up" ] && break; sleep 0.1; done
kill -TERM "$maker"; wait "$maker" || true
cp "$work/local/genesis.json" "$work/genesis.json"

ip link add "${tag}a" type bridge && ip link set "${tag}a" up
ip link add "${tag}b" type bridge && ip link set "${tag}b" up
for i in 0 1 2 3; do
    ip netns add "$tag-$i"
    ip link add "${tag}v$i" type veth peer name eth0 netns "$tag-$i"
    ip link set "${tag}v$i" master "${tag}a" up
    ip -n "$tag-$i" addr add "10.213.77.$((i + 1))/24" dev eth0
    ip -n "$tag-$i" link set eth0 up
    ip -n "$tag-$i" link set lo up
done
for i in 0 1 2 3; do
    peers=()
    for j in 0 1 2 3; do [ "$i" = "$j" ] || peers+=(--peer "10.213.77.$((j + 1)):26656"); done
    ip netns exec "$tag-$i" "$dn" ledger run --genesis "$work/genesis.json" --data-dir "$work/$i" --local-key "$i" \
        --first-start --listen "10.213.77.$((i + 1)):26656" --rpc-listen 127.0.0.1:8090 "${peers[@]}" \
        >"$work/$i.out" 2>"$work/$i.log" &
    pids+=($!)
done

# Height of a node; 0 if it does not answer.
height() {
    ip netns exec "$tag-$1" curl -s -m 5 http://127.0.0.1:8090/metrics 2>/dev/null |
        awk '$1 == "dn_ledger_height" { print $2; found = 1 } END { if (!found) print 0 }'
}
# Waits until a node is at a height.
reach() {
    for _ in $(seq 900); do [ "$(height "$1")" -ge "$2" ] && return; sleep 0.1; done
    fail "node $1 is at $(height "$1"), not at $2"
}
block() {
    ip netns exec "$tag-$1" curl -s -m 5 -H 'content-type: application/json' http://127.0.0.1:8090/ \
        -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dn_block\",\"params\":{\"height\":$2}}" |
        grep -o '"hash":"0x[0-9a-f]*"' | head -1
}
side() { for i in $2; do ip link set "${tag}v$i" master "$tag$1"; done; }

for i in 0 1 2 3; do reach "$i" 5; done
echo "four decide: height $(height 0)"

side b 3
before=$(height 0); alone=$(height 3)
reach 0 $((before + 8))
[ "$(height 3)" -le $((alone + 1)) ] || fail "one of four decided alone"
echo "3|1: three go on to $(height 0), one stays at $(height 3)"
side a 3
reach 3 "$(height 0)"
echo "joined: it caught up at $(height 3)"

side b "2 3"
sleep 3
left=$(height 0); right=$(height 2)
sleep 10
[ "$(height 0)" = "$left" ] && [ "$(height 2)" = "$right" ] || fail "half decided: $left to $(height 0), $right to $(height 2)"
echo "2|2: both halves stand at $left and $right"
side a "2 3"
for i in 0 1 2 3; do reach "$i" $((left + 8)); done
echo "joined: height $(height 0)"

for h in $(seq 1 $((left + 8))); do
    expected=$(block 0 "$h")
    for i in 1 2 3; do [ "$(block "$i" "$h")" = "$expected" ] || fail "node $i has another block $h"; done
done
echo "ok: one chain of $((left + 8)) blocks"
