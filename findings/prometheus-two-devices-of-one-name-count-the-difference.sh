#!/usr/bin/env bash
# Two devices that became one name in Prometheus are up, quiet, and have ten thousand requests a second.
#
# Guess:    two targets whose labels are made equal, as after an SD card was copied with its device's name, are refused, or one of them
#           wins, or `up` tells that something is wrong.
# Truth:    both are scraped and healthy. Their samples go into one series, in turns: each step back from the larger counter to the
#           smaller one is taken for a restart, and `rate` adds what the smaller one "counted" since. Two devices with 10 requests a
#           second each have tens of thousands. Only where two samples have one time to the millisecond is anything logged.
# Versions: prometheus 2.42.0 of Debian 12.
# Fleet:    an error rate of such a pair is wrong by a factor of thousands, in both directions, since errors and requests jump by
#           different amounts, and a gate judges a canary by it. `resets()` of a counter that never falls, asked of each device, shows
#           it; a name should come from the inventory, where it is one.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack prometheus=2.42.0*
cat >"$folder/devices.py" <<'EOF'
"""Three devices that count 10 requests a second: two from 1,000 and 100,000 on that get one name, one with its own."""
import http.server
import itertools
import json
import pathlib
import threading
import time

started = time.time()


def device(first):
    class Metrics(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"requests_total {first + 10 * (time.time() - started):.0f}\n".encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return {"targets": [f"127.0.0.1:{server.server_port}"]}


devices = [device(first) | {"labels": {"device": name}} for first, name in ((1000, "copied"), (100000, "copied"), (1000, "alone"))]
jobs = [{"job_name": "fleet", "static_configs": devices, "relabel_configs": [{"target_label": "instance", "source_labels": ["device"]}]}]
pathlib.Path("prometheus.part").write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
pathlib.Path("prometheus.part").rename("prometheus.yml")
for _ in itertools.count():
    time.sleep(1)
EOF
(cd "$folder" && exec python3 devices.py) &
started+=($!)
for _ in {1..100}; do [ ! -e "$folder/prometheus.yml" ] || break; sleep 0.1; done
port=$(unused_port)
"$folder/debian/usr/bin/prometheus" --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="127.0.0.1:$port" 2>"$folder/log" &
started+=($!)
listens "$port"
sleep 40

# answer EXPRESSION PYTHON: what the program makes of the values of the answer, a list of numbers
answer() {
    python3 - "$port" "$1" "$2" <<'EOF'
import json
import sys
import urllib.parse
import urllib.request

port, expression, program = sys.argv[1:]
url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
with urllib.request.urlopen(url) as reply:
    values = [float(row["value"][1]) for row in json.load(reply)["data"]["result"]]
print(eval(program))
EOF
}
expect "targets that are up, by Prometheus' count (of 3)" "2" "$(answer 'sum(up)' 'int(values[0])')"
expect "the device alone, requests a second: about 10" True "$(answer 'rate(requests_total{device="alone"}[20s])' '5 < values[0] < 15')"
printf '  the pair: %s\n' "$(answer 'rate(requests_total{device="copied"}[20s])' 'f"{values[0]:.0f} requests a second"')"
expect "the pair, requests a second: more than 10,000" True "$(answer 'rate(requests_total{device="copied"}[20s])' 'values[0] > 10000')"
expect "the pair's restarts: some" True "$(answer 'resets(requests_total{device="copied"}[20s])' 'values[0] > 3')"
expect "the pair's lowest up" 1 "$(answer 'min_over_time(up{device="copied"}[20s])' 'int(values[0])')"
finish
