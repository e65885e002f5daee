#!/usr/bin/env bash
# A quantile over devices whose releases have other histogram buckets is that of no device: a canary of 5% makes 0.4 s into 10 s.
#
# Guess:    `histogram_quantile(0.99, sum by (le) (rate(...)))` over a fleet in the middle of a rollout is a little less exact where the
#           new release has other buckets; it lies between the values of the two releases, and whatever makes no sense is left out.
# Truth:    a bound that only one release has counts that release alone, and +Inf counts all. Where the share of the new release is above
#           1%, the 99th percentile is the largest bound of all: here 10 s, while each request took 0.4 s and each
#           release by itself says less than 1 s. Nothing warns. A bound that two servers spell otherwise ("1", "1.0") is one
#           to the quantile and two to a selector: `le="1"` sees half of the requests.
# Versions: prometheus 2.42.0 of Debian 12.
# Fleet:    the alert on latency fires with the first canary and blames its model, or, the other way round, hides a slow one. Ask for the
#           quantile by release, and leave a release's buckets as they are. Write bounds in a rule as `le=~"1|1.0"`.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack prometheus=2.42.0*
# Each request takes 0.4 s: 95 requests a minute by the old release, 5 by the new one. `spelt` has two servers with the same bounds.
cat >"$folder/rules.yml" <<'EOF'
groups:
  - name: latency
    rules:
      - record: old
        expr: histogram_quantile(0.99, sum by (le) (rate(took_bucket{release="old"}[5m])))
      - record: new
        expr: histogram_quantile(0.99, sum by (le) (rate(took_bucket{release="new"}[5m])))
      - record: both
        expr: histogram_quantile(0.99, sum by (le) (rate(took_bucket[5m])))
      - record: mean
        expr: sum(rate(took_sum[5m])) / sum(rate(took_bucket{le="+Inf"}[5m]))
      - record: spelt
        expr: histogram_quantile(0.5, sum by (le) (rate(spelt_bucket[5m])))
      - record: within
        expr: sum(rate(spelt_bucket{le="1"}[5m])) / sum(rate(spelt_bucket{le="+Inf"}[5m]))
EOF
series() { printf "      - series: '%s'\n        values: '0+%sx10'\n" "$1" "$2"; }
# value RULE: what the rule's expression gives, as promtool's test prints it where it expected another value
value() {
    {
        printf 'rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n'
        for bucket in 0.1=0 1=95 10=95 +Inf=95; do series "took_bucket{release=\"old\",le=\"${bucket%=*}\"}" "${bucket#*=}"; done
        for bucket in 0.25=0 0.5=5 2=5 +Inf=5; do series "took_bucket{release=\"new\",le=\"${bucket%=*}\"}" "${bucket#*=}"; done
        for release in old=38 new=2; do series "took_sum{release=\"${release%=*}\"}" "${release#*=}"; done
        for bucket in 0.5=0 1=50 +Inf=50; do series "spelt_bucket{server=\"go\",le=\"${bucket%=*}\"}" "${bucket#*=}"; done
        for bucket in 0.5=0 1.0=50 +Inf=50; do series "spelt_bucket{server=\"python\",le=\"${bucket%=*}\"}" "${bucket#*=}"; done
        printf "    promql_expr_test:\n      - {expr: %s, eval_time: 10m, exp_samples: [{labels: '%s', value: -1}]}\n" "$1" "$1"
    } >"$folder/test.yml"
    (cd "$folder" && debian/usr/bin/promtool test rules test.yml 2>&1) | awk '$1 == "got:" {printf "%.2g\n", $NF; exit}'
}
expect "99th percentile of the old release, in seconds" 0.99 "$(value old)"
expect "99th percentile of the new release" 0.5 "$(value new)"
expect "99th percentile of both" 10 "$(value both)"
expect "mean of both" 0.4 "$(value mean)"
expect "median, with a bound that is spelt in two ways" 0.75 "$(value spelt)"
expect 'share within le="1" (all are)' 0.5 "$(value within)"
finish
