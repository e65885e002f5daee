#!/usr/bin/env bash
# nginx as a TLS client takes a certificate for a name, and never for an address, also where the address stands in it.
#
# Guess:    a site's cache that proxies to `https://10.0.0.5` accepts the origin's certificate whose subjectAltName has
#           IP:10.0.0.5, as curl, Python and browsers do.
# Truth:    `proxy_ssl_verify` compares DNS names alone. The address in subjectAltName counts for nothing, and every request ends
#           with 502; the error log says that the certificate does not match. A name of it, given by `proxy_ssl_name`, is accepted.
# Versions: nginx 1.22.1 of Debian 12.
# Fleet:    edge sites often have no name service, so origins and caches are reached by address. Put a name of your own into the
#           certificate and give it with `proxy_ssl_name`, or into the cache's /etc/hosts; switching the verification off is what
#           people do instead.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack nginx
nginx=$folder/debian/usr/sbin/nginx
"$nginx" -v 2>&1

origin=$(unused_port)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=origin -keyout "$folder/key.pem" \
    -addext subjectAltName=IP:127.0.0.1,DNS:models.example -out "$folder/certificate.pem" 2>/dev/null

# begin NAME PORT LINES: start an nginx whose one server has these lines.
begin() {
    mkdir -p "$folder/$1"
    cat >"$folder/$1/nginx.conf" <<EOF
pid $folder/$1/pid;
error_log $folder/$1/log;
daemon off;
events {}
http {
    access_log off;
    client_body_temp_path $folder/$1/body;
    proxy_temp_path $folder/$1/proxy;
    fastcgi_temp_path $folder/$1/fastcgi;
    uwsgi_temp_path $folder/$1/uwsgi;
    scgi_temp_path $folder/$1/scgi;
    server { $3 }
}
EOF
    "$nginx" -p "$folder/$1" -c "$folder/$1/nginx.conf" -e "$folder/$1/log" &
    started+=("$!")
    listens "$2"
}

begin origin "$origin" "listen 127.0.0.1:$origin ssl; ssl_certificate $folder/certificate.pem;
    ssl_certificate_key $folder/key.pem; location / { return 200 model; }"

# through NAME LINES: what a client gets through a cache with these lines.
through() {
    local port
    port=$(unused_port)
    begin "$1" "$port" "listen 127.0.0.1:$port; location / { proxy_pass https://127.0.0.1:$origin; proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $folder/certificate.pem; $2 }"
    answer=$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$port/")
}

expect "curl, by the address" 200 \
    "$(curl --silent --output /dev/null --write-out '%{http_code}' --cacert "$folder/certificate.pem" "https://127.0.0.1:$origin/")"
through by-address ""
expect "nginx, by the address" 502 "$answer"
expect "nginx says that the certificate does not match" yes \
    "$(grep -q 'certificate does not match' "$folder/by-address/log" && echo yes || echo no)"
through by-name "proxy_ssl_name models.example;"
expect "nginx, by a name of the certificate" 200 "$answer"
finish
