#!/usr/bin/env bash
# vmalert answers 200 to a reload of rules that it refuses, and a rule file that is gone is a reload that succeeded.
#
# Guess:    `/-/reload` answers as Prometheus does: 200 when the new rules are in force, 500 with the reason when they are not. A file
#           that `-rule` names and that is not there is an error.
# Truth:    the answer is 200 before a file was read. Of rules that cannot be parsed only the log and the metric
#           `vmalert_config_last_reload_successful` tell. A file that is gone is no error for either: all alerts end, the metric says
#           1, and a start with no rule at all is healthy. `-dryRun`, of that version, does refuse it.
# Versions: vmalert 1.79.5, prometheus 2.42.0 of Debian 12.
# Fleet:    a play that puts the alerts in place and reloads by URL reports success while yesterday's are in force; one renamed file and
#           the fleet is watched by nobody, with every light green. Check by `vmalert -dryRun`, and ask `/api/v1/rules` for the names.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack victoria-metrics=1.79.5+ds1-2+b5 prometheus=2.42.0+ds-5+deb12u*
store=$(unused_port) vmalert=$(unused_port) prometheus=$(unused_port)

# rules EXPRESSION: the rule file of both, with one alert
rules() { printf 'groups:\n- name: fleet\n  rules:\n  - alert: DeviceAway\n    expr: "%s"\n' "$1" >"$folder/alerts.yml"; }
# watch PORT FILE: run vmalert by that file
watch() {
    "$folder/debian/usr/bin/vmalert" -rule="$2" -httpListenAddr="127.0.0.1:$1" -datasource.url="http://127.0.0.1:$store" \
        -notifier.url="http://127.0.0.1:$store" -evaluationInterval=1s >"$folder/vmalert.log" 2>&1 &
    started+=($!)
    listens "$1"
}
reload() { curl -s -o /dev/null -w '%{http_code}' -X POST "http://127.0.0.1:$1/-/reload"; }
# loaded PORT: the names of the rules that are in force
loaded() { curl -s "http://127.0.0.1:$1/api/v1/rules" | grep -o '"name":"DeviceAway"' || echo none; }
metric() { curl -s "http://127.0.0.1:$vmalert/metrics" | awk -v name="vmalert_config_last_reload_$1" '$1 == name {print $2}'; }
# reloads COUNT: wait until vmalert has done that many
reloads() {
    for _ in {1..100}; do
        if [ "$(metric total)" = "$1" ]; then return; fi
        sleep 0.1
    done
}
dry_run() {
    local code=0
    "$folder/debian/usr/bin/vmalert" -dryRun -rule="$folder/alerts.yml" 2>/dev/null || code=$?
    if [ "$code" = 0 ]; then echo accepted; else echo refused; fi
}

"$folder/debian/usr/bin/victoria-metrics" -storageDataPath="$folder/data" -httpListenAddr="127.0.0.1:$store" >"$folder/log" 2>&1 &
started+=($!)
listens "$store"
rules 'vector(1)'
printf 'rule_files: [%s]\n' "$folder/alerts.yml" >"$folder/prometheus.yml"
"$folder/debian/usr/bin/prometheus" --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/tsdb" --web.enable-lifecycle \
    --web.listen-address="127.0.0.1:$prometheus" >"$folder/prometheus.log" 2>&1 &
started+=($!)
listens "$prometheus"
watch "$vmalert" "$folder/alerts.yml"
expect "a good file" '"name":"DeviceAway"' "$(loaded "$vmalert")"

rules 'sum by (device) up'
expect "rules that cannot be parsed: Prometheus answers" 500 "$(reload "$prometheus")"
expect "vmalert answers" 200 "$(reload "$vmalert")"
reloads 1
expect "its metric of success" 0 "$(metric successful)"
expect "its dry run" refused "$(dry_run)"

rm "$folder/alerts.yml"
expect "a file that is gone: vmalert answers" 200 "$(reload "$vmalert")"
reloads 2
expect "its metric of success" 1 "$(metric successful)"
expect "the alerts that are left" none "$(loaded "$vmalert")"
expect "its dry run" refused "$(dry_run)"
empty=$(unused_port)
watch "$empty" "$folder/nothing.yml"
expect "a start with a file that is not there: health" OK "$(curl -s "http://127.0.0.1:$empty/health")"
finish
