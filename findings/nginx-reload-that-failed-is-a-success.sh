#!/usr/bin/env bash
# `nginx -s reload` ends with 0 when nginx refuses the new configuration, and before it serves an accepted one.
#
# Guess:    a reload that ends with 0 was carried out: the new configuration is served, the new certificate is shown. `nginx -t`
#           before it finds what would go wrong.
# Truth:    the command only sends a signal. Where an address of the new configuration is taken by another program, `nginx -t` is
#           content and the reload ends with 0; the master writes an `[emerg]` to its log and goes on with the old configuration,
#           whole: other servers of the same file keep their old answers, too. An accepted configuration is served some time after
#           the command has ended.
# Versions: nginx 1.22.1 of Debian 12.
# Fleet:    a handler that reloads nginx after a certificate was replaced reports success, and devices go on to see the old one
#           until it expires. Ask nginx itself, by a connection, until it shows what was installed.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack nginx=1.22.1-9+deb12u*
port=$(unused_port)
other=$(unused_port)
mkdir "$folder/run"

# configure ANSWER [PORT]: a configuration that answers so, and that listens on PORT, too
configure() {
    cat >"$folder/run/nginx.conf" <<END
daemon off;
pid $folder/run/pid;
error_log $folder/run/errors;
events {}
http {
    access_log off;
    client_body_temp_path $folder/run/body;
    proxy_temp_path $folder/run/proxy;
    fastcgi_temp_path $folder/run/fastcgi;
    uwsgi_temp_path $folder/run/uwsgi;
    scgi_temp_path $folder/run/scgi;
    server { listen 127.0.0.1:$port; location / { return 200 "$1"; } }
    ${2:+server { listen 127.0.0.1:$2; location / { return 200 "$1"; \} \}}
}
END
}
nginx=("$folder/debian/usr/sbin/nginx" -p "$folder/run" -c "$folder/run/nginx.conf" -e "$folder/run/errors")
code_of() {
    local code=0
    "$@" 2>/dev/null || code=$?
    echo "$code"
}

configure old
"${nginx[@]}" &
started+=($!)
listens "$port"
expect "the answer" old "$(curl -s "http://127.0.0.1:$port/")"

python3 -m http.server --bind 127.0.0.1 "$other" >/dev/null 2>&1 &
started+=($!)
listens "$other"
configure new "$other"
expect "the check before it, exit code" 0 "$(code_of "${nginx[@]}" -t)"
expect "the reload, exit code" 0 "$(code_of "${nginx[@]}" -s reload)"
for _ in {1..100}; do
    if grep --quiet 'still could not bind' "$folder/run/errors"; then break; fi
    sleep 0.1
done
expect "what the log says" "still could not bind()" "$(grep --only-matching 'still could not bind()' "$folder/run/errors" | head -n 1)"
expect "the answer after it, where nothing was in the way" old "$(curl -s "http://127.0.0.1:$port/")"

configure new
expect "a reload that can be carried out" 0 "$(code_of "${nginx[@]}" -s reload)"
for _ in {1..100}; do
    answer=$(curl -s "http://127.0.0.1:$port/")
    if [ "$answer" = new ]; then break; fi
    sleep 0.1
done
expect "the answer, some time later" new "$answer"
finish
