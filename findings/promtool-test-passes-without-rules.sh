#!/usr/bin/env bash
# promtool's test of rules succeeds when the rule file is not there, when the alert's name is misspelt, and when there is no test.
#
# Guess:    `promtool test rules` fails when what it is to test is not there; `promtool check config`, which refuses a missing rule file,
#           is of the same program.
# Truth:    a rule file that does not exist is a warning, the verdict "SUCCESS", the exit code 0. A test that expects no alert asks for
#           whatever name it has, and passes for an alert that no file defines. A file without tests passes, too. A test
#           that expects an alert does fail in all three cases.
# Versions: prometheus 2.42.0 of Debian 12.
# Fleet:    half of a rule's tests are that it stays silent ("not while a device is patched"). After a file was moved or an alert renamed
#           they are green for ever, and the rule that pages at three in the morning is not tested. Give each silent test a twin that
#           fires, and have CI look for "no file match".

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack prometheus=2.42.0+ds-5+deb12u*
cat >"$folder/alerts.yml" <<'EOF'
groups:
- name: fleet
  rules:
  - alert: DeviceAway
    expr: up == 0
    for: 5m
EOF
# tests FILE ALERT EXPECTED: a device is away for half an hour; what that alert is to be
tests() {
    cat >"$folder/tests.yml" <<EOF
rule_files: [$1]
tests:
- interval: 1m
  input_series:
  - {series: 'up{device="camera"}', values: 0x30}
  alert_rule_test:
  - {eval_time: 20m, alertname: $2, exp_alerts: $3}
EOF
}
# verdict COMMAND…: promtool's exit code, and what it says
verdict() {
    local code=0
    "$folder/debian/usr/bin/promtool" "$@" >"$folder/log" 2>&1 || code=$?
    printf '%s %s\n' "$code" "$(grep -oE 'SUCCESS|FAILED|no file match' "$folder/log" | sort -u | xargs)"
}

fires='[{exp_labels: {device: camera}}]'
tests alerts.yml DeviceAway "$fires"
expect "the alert fires, as it does" "0 SUCCESS" "$(verdict test rules "$folder/tests.yml")"
tests alerts.yml DeviceAway '[]'
expect "the alert is silent, which it is not" "1 FAILED" "$(verdict test rules "$folder/tests.yml")"
tests alerts.yml DeviceAwya '[]'
expect "an alert of another name is silent" "0 SUCCESS" "$(verdict test rules "$folder/tests.yml")"
tests moved.yml DeviceAway '[]'
expect "the rule file is not there, and the alert is silent" "0 SUCCESS no file match" "$(verdict test rules "$folder/tests.yml")"
tests moved.yml DeviceAway "$fires"
expect "the rule file is not there, and the alert fires" "1 FAILED no file match" "$(verdict test rules "$folder/tests.yml")"
printf 'rule_files: [alerts.yml]\ntests: []\n' >"$folder/tests.yml"
expect "no test" "0 SUCCESS" "$(verdict test rules "$folder/tests.yml")"
printf 'rule_files: [moved.yml]\n' >"$folder/prometheus.yml"
expect "the configuration's check of a missing rule file" "1 FAILED" "$(verdict check config "$folder/prometheus.yml")"
finish
