#!/usr/bin/env bash
# nginx's WebDAV moves a file to wherever the client says, also where no location lets anybody write.
#
# Guess:    `dav_methods` in the location of one device lets that device write there, and the location of another is safe from it:
#           a PUT there is 403. MOVE is a write like PUT.
# Truth:    the rules are those of the location that the file is moved from. `Destination` is a path below `root` and nothing else:
#           no location is looked up for it, and so no `deny`, no certificate's name and no `return 403` of that location counts.
# Versions: nginx 1.22.1 of Debian 12.
# Fleet:    PUT under a name of one's own and MOVE to the final one is how devices deliver whole reports to an nginx. With rules by
#           location alone, one device writes reports of all others. Compare `$http_destination` with what the client may write, by
#           a map that has both, and refuse all else.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack nginx
nginx=$folder/debian/usr/sbin/nginx
"$nginx" -v 2>&1

port=$(unused_port)
mkdir -p "$folder/files/edge-1" "$folder/files/edge-2"
chmod -R a+rwX "$folder" "$folder/files"
cat >"$folder/nginx.conf" <<EOF2
pid $folder/pid;
error_log $folder/log;
daemon off;
$([ "$(id -u)" -ne 0 ] || echo "user root root;")
events {}
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    server {
        listen 127.0.0.1:$port;
        root $folder/files;
        location /edge-1/ { dav_methods PUT MOVE; }
        location / { return 403; }
    }
}
EOF2
"$nginx" -p "$folder" -c "$folder/nginx.conf" -e "$folder/log" &
started+=("$!")
listens "$port"

# ask METHOD PATH: the status of the answer.
ask() {
    curl --silent --output /dev/null --write-out '%{http_code}' --request "$1" --data-binary x \
        "http://127.0.0.1:$port$2"
}

expect "PUT into the own location" 201 "$(ask PUT /edge-1/report)"
expect "PUT into the other location" 403 "$(ask PUT /edge-2/report)"
expect "PUT there left a file" no "$([ -e "$folder/files/edge-2/report" ] && echo yes || echo no)"
expect "MOVE into the other location" 204 \
    "$(curl --silent --output /dev/null --write-out '%{http_code}' --request MOVE \
        --header "Destination: http://127.0.0.1:$port/edge-2/report" "http://127.0.0.1:$port/edge-1/report")"
expect "MOVE there left a file" yes "$([ -e "$folder/files/edge-2/report" ] && echo yes || echo no)"
finish
