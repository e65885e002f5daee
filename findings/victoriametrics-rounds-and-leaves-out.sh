#!/usr/bin/env bash
# VictoriaMetrics gives back other numbers than it got, and answers 0/0 with no series.
#
# Guess:    what is stored comes back as it was sent, as in Prometheus; a rate without requests, 0/0, is NaN, which an alert can ask
#           for.
# Truth:    values are kept as decimal numbers: of the 17 digits that name a double, 14 come back, by a query and by an export; whole
#           numbers come back whole. 0/0 has no row at all in the answer (Prometheus: a row with NaN), so that an expression which
#           is to tell "no requests" from "not scraped" tells neither.
# Versions: victoria-metrics 1.79.5 of Debian 12.
# Fleet:    whoever reads back what was forwarded before deleting it on the device has to compare within 1e-13, or keeps it for
#           ever. A rule on an error rate says nothing about a service that nobody asks: ask for the counter beside it.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack victoria-metrics=1.79.5+ds1-2+b5
port=$(unused_port)
"$folder/debian/usr/bin/victoria-metrics" -storageDataPath="$folder/data" -httpListenAddr="127.0.0.1:$port" -retentionPeriod=1 \
    -search.latencyOffset=0s >"$folder/log" 2>&1 &
started+=($!)
listens "$port"

get() { curl -s -G "http://127.0.0.1:$port$1" "${@:2}"; }
# value EXPRESSION: the value of its only row; "no row" where there is none.
value() {
    get /api/v1/query --data-urlencode "query=$1" --data-urlencode nocache=1 --data-urlencode "time=$now" |
        python3 -c 'import json, sys; rows = json.load(sys.stdin)["data"]["result"]; print(rows[0]["value"][1] if rows else "no row")'
}

now=$(date +%s)
curl -s "http://127.0.0.1:$port/api/v1/import/prometheus" --data-binary "short 0.25 ${now}000
count 9007199254740991 ${now}000
score 0.12345678901234567 ${now}000
errors 0 ${now}000
requests 0 ${now}000
"
for _ in {1..100}; do
    get /internal/force_flush
    [ "$(value requests)" = "no row" ] || break
    sleep 0.1
done
expect "0.25" 0.25 "$(value short)"
expect "9007199254740991, the largest whole number of a double" 9007199254740991 "$(value count)"
expect "0.12345678901234567" 0.12345678901234 "$(value score)"
expect "the same by an export" 0.12345678901234 \
    "$(get /api/v1/export --data-urlencode 'match[]=score' | python3 -c 'import json, sys; print(json.loads(sys.stdin.readline())["values"][0])')"
expect "requests" 0 "$(value requests)"
expect "errors / requests" "no row" "$(value 'errors / requests')"
finish
