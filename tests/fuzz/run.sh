#!/bin/sh
# run.sh SECONDS: fuzz every target so long. With nightly Rust and a C++ compiler libFuzzer does it;
# elsewhere, or with FUZZ=stable, the runner of this directory. TARGETS="a b" picks; JOBS=n at once.
set -eu
seconds=${1:-60}
cd "$(dirname "$0")"
cargo=${CARGO:-cargo}
jobs=${JOBS:-$(nproc)}
out=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')

$cargo build --release --locked --quiet --bin runner
runner=$out/release/runner
targets=${TARGETS:-$("$runner" --list)}

# What cargo-fuzz would set; without it one thing less has to be installed.
instrument="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing"
mode=stable
if [ "${FUZZ:-}" != stable ] && rustc +nightly -V >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1; then
    if RUSTFLAGS="$instrument" $cargo +nightly build --release --locked --quiet --target "$host" \
        --features libfuzzer --target-dir "$out/libfuzzer"; then
        mode=libfuzzer
    elif [ "${FUZZ:-}" = libfuzzer ]; then
        exit 1
    else
        echo "fuzz: libFuzzer cannot be built here, going on without coverage" >&2
    fi
fi

one() {
    name=$1
    mkdir -p "artifacts/$name" "corpus/$name"
    log=artifacts/$name/log
    if [ "$mode" = stable ]; then
        ulimit -v 4000000
        "$runner" "$seconds" "$name" 2>"$log" && return 0
    else
        "$runner" --seeds "$name" "corpus/$name"
        # Leaks are what the process still holds when it is stopped; not what this looks for.
        ASAN_OPTIONS=detect_leaks=0 "$out/libfuzzer/$host/release/$name" "corpus/$name" \
            -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
            -print_final_stats=1 -artifact_prefix="artifacts/$name/" >"$log" 2>&1 && {
            awk -v name="$name" '
                /number_of_executed_units/ { count = $2 }
                / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
                END { print name ": " count " inputs, " cov " edges, ok (libFuzzer)" }' "$log"
            return 0
        }
    fi
    grep -h -m3 'panicked at\|FAILED\|ERROR:\|Test unit written' "$log" | sed "s/^/$name: /"
    echo "$name: FAILED, see tests/fuzz/artifacts/$name"
    return 1
}

# So many at once; a batch ends when its slowest does, and all take the same time.
failed=0
running=
count=0
for name in $targets; do
    one "$name" &
    running="$running $!"
    count=$((count + 1))
    if [ "$count" -ge "$jobs" ]; then
        for pid in $running; do wait "$pid" || failed=1; done
        running=
        count=0
    fi
done
for pid in $running; do wait "$pid" || failed=1; done
exit $failed
