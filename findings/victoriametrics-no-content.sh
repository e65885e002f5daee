#!/usr/bin/env bash
# VictoriaMetrics answers 204 to samples that it drops, and shows none that are fresh.
#
# Guess:    an import that was answered with 204 is stored; lines that cannot be read, or times that are out of range, are a 400.
#           What is stored is found by the next query.
# Truth:    204 for all: a line that is no sample, a decimal comma, a sample older than the retention, one from the far future, seconds
#           where the JSON import wants milliseconds. Only two counters in its own metrics tell. A sample of this second is stored,
#           but a query finds it only half a minute later, unless it is asked with `nocache=1` and a `-search.latencyOffset`.
# Versions: victoria-metrics 1.79.5 of Debian 12.
# Fleet:    a device that was away for a day sends what it kept, gets its 204, and deletes it: the gap stays. A gate that asks
#           just after the soak judges the time before. Read back what was sent before it is deleted on the device.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack victoria-metrics=1.79.5+ds1-2+b5
port=$(unused_port)
"$folder/debian/usr/bin/victoria-metrics" -storageDataPath="$folder/data" -httpListenAddr="127.0.0.1:$port" -retentionPeriod=1 \
    >"$folder/log" 2>&1 &
started+=($!)
listens "$port"

post() { curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port$1" --data-binary "$2"; }
get() { curl -s -G "http://127.0.0.1:$port$1" "${@:2}"; }

now=$(date +%s)
text=/api/v1/import/prometheus
expect "a good sample" 204 "$(post $text "good 1 ${now}000")"
expect "no sample at all" 204 "$(post $text 'accuracy{model="digits" 0.97')"
expect "a decimal comma" 204 "$(post $text 'comma{model="digits"} 0,97')"
expect "a sample of 2001" 204 "$(post $text 'old 1 1000000000000')"
expect "a sample of in 90 days" 204 "$(post $text "early 1 $((now + 90 * 86400))000")"
expect "seconds by JSON" 204 "$(post /api/v1/import "{\"metric\":{\"__name__\":\"seconds\"},\"values\":[1],\"timestamps\":[$now]}")"
for _ in {1..100}; do
    get /internal/force_flush
    [ "$(get /api/v1/label/__name__/values)" = '{"status":"success","data":[]}' ] || break
    sleep 0.1
done
expect "what is stored" '{"status":"success","data":["good"]}' "$(get /api/v1/label/__name__/values)"
expect "what a query finds of it" '{"status":"success","data":{"resultType":"vector","result":[]}}' \
    "$(get /api/v1/query --data-urlencode query=good)"
finish
