#!/usr/bin/env bash
# Runs every fuzz target of the module, one after another, for FUZZTIME each
# (30s; or a number of inputs, as 10000x). FUZZ is a pattern for their names.
# A failing input is left in the package's testdata/fuzz: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${FUZZTIME:-30s}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
ran=0 failed=()

fuzz() { go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" >"$out" 2>&1; }

while IFS=: read -r file name; do
  [[ $name =~ ${FUZZ:-.} ]] || continue
  pkg=./$(dirname "$file")
  printf '%-50s %s\n' "$name" "$pkg"
  ran=$((ran + 1))
  fuzz "$pkg" "$name" && continue
  # On a busy machine the fuzzing engine now and then misses its own deadline
  # and calls that a failure. Only an input that fails is one.
  if grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input\|testdata/fuzz' "$out"; then
    echo "  the engine stopped late; once more"
    fuzz "$pkg" "$name" && continue
  fi
  cat "$out"
  failed+=("$name")
done < <(git ls-files --cached --others --exclude-standard '*_test.go' |
  xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/:func /:/' | sort)

if [ "$ran" -eq 0 ]; then
  echo "no fuzz target matches ${FUZZ:-.}" >&2
  exit 1
fi
echo "$((ran - ${#failed[@]})) passed, ${#failed[@]} failed"
[ "${#failed[@]}" -eq 0 ]
