# shellcheck shell=bash
# Say what is going on, keep time, and watch long commands. To be sourced by a script that runs under `set -e`.

step_names=()
step_seconds=()
current_step=""
current_start=0
launched=""
children=()

say() { printf '    %s\n' "$*"; }

# die PROBLEM [HINT…]: print them and end the script.
die() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '       %s\n' "$hint" >&2; done
    exit 1
}

# step NAME COMMAND…: announce it, run it, remember how long it took. The exit code is the command's.
step() {
    local code=0
    current_step=$1
    current_start=$SECONDS
    shift
    printf '==> %s\n' "$current_step"
    "$@"
    code=$?
    end_step
    return "$code"
}

end_step() {
    if [ -n "$current_step" ]; then
        step_names+=("$current_step")
        step_seconds+=("$((SECONDS - current_start))")
        current_step=""
    fi
}

# time_table: where the time of this script went, a line for each step.
time_table() {
    local i
    end_step
    printf '\n%-56s %8s\n' "where the time went" "seconds"
    for i in "${!step_names[@]}"; do
        printf '  %-54s %8d\n' "${step_names[i]}" "${step_seconds[i]}"
    done
    printf '  %-54s %8d\n' "total" "$SECONDS"
}

# launch LOG COMMAND…: start it in a process group of its own, with its output in LOG, and set $launched to its id. It
# inherits the set-up's lock, descriptor 9: should this script be killed, the next one waits for what is still at work. The
# descriptors of who called the set-up it does not: with them, mmdebstrap's own have two digits, which dash cannot read.
launch() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    setsid "$@" >"$log" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- &
    launched=$!
    children+=("$launched")
}

# await PID LOG NAME: wait for a launched command; show every ten seconds that it lives and what it said last.
await() {
    local pid=$1 log=$2 name=$3 shown=$SECONDS code=0
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - shown >= 10)); then
            shown=$SECONDS
            printf '    … %3d s  %s\n' "$((SECONDS - current_start))" "$(tail -n 1 "$log" | cut -c 1-90)"
        fi
    done
    wait "$pid" || code=$?
    if [ "$code" -ne 0 ]; then
        tail -n 30 "$log" | sed 's/^/    | /' >&2
        die "$name failed with exit code $code" "its whole output: $log"
    fi
}

# watched LOG COMMAND…: run it to its end, watching over it.
watched() {
    launch "$@"
    await "$launched" "$1" "$2"
}

# stop_children: end what was launched and is still running; for the script's EXIT trap.
stop_children() {
    local pid
    for pid in "${children[@]}"; do
        if kill -TERM -- "-$pid" 2>/dev/null; then wait "$pid" || true; fi
    done
    children=()
}
