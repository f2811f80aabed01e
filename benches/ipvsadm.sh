#!/bin/bash
# How fast ipvsadm-rs is beside ipvsadm: each command by turns, ROUNDS times, best and median in
# milliseconds. Needs root, IPVS and ipvsadm, and works in a network namespace of its own, a new
# one for each restore (see ipvs.rs for why).
#
#   cargo xtask lab -- benches/ipvsadm.sh target/release/ipvsadm-rs [SERVICES DESTINATIONS ROUNDS]
set -eu

# Times one command in nanoseconds: took INPUT PROGRAM WORDS...
took() {
    local input=$1 start end
    shift
    start=$(date +%s%N)
    "$@" < "$input" > /dev/null
    end=$(date +%s%N)
    echo $((end - start))
}
if [ "$1" = once ]; then
    shift
    ip link set lo up
    took "$@"
    exit
fi
ours=$(realpath "$1") services=${2:-1000} destinations=${3:-10} rounds=${4:-5}
theirs=$(command -v ipvsadm)
rules=$(mktemp) && trap 'rm -f "$rules"' EXIT
for ((s = 1; s <= services; s++)); do
    echo "-A -t 192.0.2.1:$s -s wlc"
    for ((d = 1; d <= destinations; d++)); do
        echo "-a -t 192.0.2.1:$s -r 198.51.100.$d:80 -m -w 1"
    done
done > "$rules"

compare() {
    local name=$1 input=$2 round
    shift 2
    local times_theirs=() times_ours=()
    for ((round = 0; round < rounds; round++)); do
        if [ "$name" = -R ]; then
            times_theirs+=("$(unshare -n "$0" once "$input" "$theirs" -R)")
            times_ours+=("$(unshare -n "$0" once "$input" "$ours" -R)")
        else
            times_theirs+=("$(took "$input" "$theirs" "$@")")
            times_ours+=("$(took "$input" "$ours" "$@")")
        fi
    done
    local a b
    mapfile -t a < <(printf '%s\n' "${times_theirs[@]}" | sort -n)
    mapfile -t b < <(printf '%s\n' "${times_ours[@]}" | sort -n)
    local m=$((rounds / 2))
    awk -v n="$name" -v a0="${a[0]}" -v am="${a[$m]}" -v b0="${b[0]}" -v bm="${b[$m]}" 'BEGIN {
        printf "%-14s ipvsadm %8.1f %8.1f   ipvsadm-rs %8.1f %8.1f   median ratio %5.1f\n",
            n, a0 / 1e6, am / 1e6, b0 / 1e6, bm / 1e6, am / bm }'
}

if [ -z "${CVIP_BENCH_NAMESPACE:-}" ]; then
    CVIP_BENCH_NAMESPACE=1 exec unshare -n "$0" "$@"
fi
ip link set lo up
echo "$services services x $destinations destinations, $rounds rounds (best, median, in ms)"
compare -R "$rules"
"$ours" -R < "$rules"
for words in -Ln -Sn "-Ln --stats" "-Ln --rate" "-Ln --nosort" "-Ln --thresholds" -Lnc; do
    # shellcheck disable=SC2086
    compare "$words" /dev/null $words
done
