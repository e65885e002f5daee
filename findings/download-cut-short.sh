#!/usr/bin/env bash
# A download whose connection ended in the middle is a success to Ansible's `uri`, to its older `get_url`, and to copyfileobj.
#
# Guess:    when a server promised 1,000,000 bytes and the connection was closed after 400,000, every client reports an error.
# Truth:    `uri` with `dest` reports "OK (1000000 bytes)" and leaves 400,000. So does `get_url` of core 2.16; that of 2.21 refuses.
#           The reason is Python's: `response.read()` raises IncompleteRead, but `read(size)`, and with it `shutil.copyfileobj`,
#           ends as if the file were complete.
# Versions: ansible-core 2.16.14 and, where a Python 3.12 is, 2.21.5; the standard library of the Python that runs this.
# Fleet:    links at the edge break in the middle of a model. Without a digest the device keeps 40% of it and says "changed".

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

cat >"$folder/server.py" <<'EOF'
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client = listener.accept()[0]
    request = b""
    while b"\r\n\r\n" not in request and (piece := client.recv(65536)):
        request += piece
    if request:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"m" * 400000)
    client.close()
EOF
port=$(unused_port)
"$(python_from 3.9)" "$folder/server.py" "$port" &
started+=($!)
listens "$port"

for module in uri get_url; do
    cat >"$folder/$module.yml" <<EOF
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.$module: {url: "http://127.0.0.1:$port/model.onnx", dest: "{{ dest }}"}
EOF
done

# try NAME GET_URL: GET_URL: the exit code and the bytes kept by that module
try() {
    local module
    for module in uri get_url; do
        playbook "$1" -i localhost, $module.yml -e "dest=$folder/$1.$module"
        expect "$module: exit code and bytes" "$([ $module = uri ] && echo "0 400000" || echo "$2")" \
            "$code $(stat -c %s "$folder/$1.$module" 2>/dev/null || echo none)"
    done
}

install oldest ansible-core==2.16.14
try oldest "0 400000"
install newest --python 3.12 ansible-core==2.21.5
try newest "2 none"

python_finding oldest "http://127.0.0.1:$port/model.onnx" <<'EOF'
import http.client, io, shutil, sys, urllib.request
from finding import expect

kept = io.BytesIO()
shutil.copyfileobj(urllib.request.urlopen(sys.argv[1]), kept)
expect("copyfileobj", "no error, 400000 bytes", f"no error, {kept.tell()} bytes")
try:
    urllib.request.urlopen(sys.argv[1]).read()
    whole = "no error"
except http.client.IncompleteRead:
    whole = "IncompleteRead"
expect("read()", "IncompleteRead", whole)
EOF
finish
