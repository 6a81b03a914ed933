#!/bin/sh
# tally.sh LOG: adds up the result lines of all test programs in LOG.
#
# A test that cannot run here prints `SKIP name: reason`. Skips count apart from passes; with
# REQUIRE_ALL=1 a skip whose name is not in skips.txt fails the run.
set -eu
here=$(dirname "$0")

awk -v all="${REQUIRE_ALL:-0}" -v allowed="$here/skips.txt" '
    BEGIN { while ((getline line < allowed) > 0) if (line !~ /^#/) { split(line, f, ":"); ok[f[1]] = 1 } }
    /^test result:/ { passed += $4; failed += $6; skipped += $8; runs++ }
    /^SKIP / { name = $2; sub(/:$/, "", name)
               if (!(name in seen)) { seen[name] = 1; skips++
                   print "skipped: " substr($0, 6)
                   if (all && !(name in ok)) { print "not allowed to skip: " name; failed++ } } }
    /^exit status: [1-9]/ { broken++ }
    END {
        if (!runs) { print "no test program ran"; failed++ }
        # A program that failed without counting a test failed all the same.
        if (broken && !failed) failed = broken
        passed -= skips
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped + skips
        exit failed > 0
    }' "$1"
