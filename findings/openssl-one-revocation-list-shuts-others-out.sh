#!/usr/bin/env bash
# A server that believes two authorities and has a revocation list of one of them refuses every client of the other one.
#
# Guess:    a revocation list only takes away: who is not on it is let in as before. So a second authority can be added to the
#           believed ones, and its own list may come later, or never, while it has revoked nobody.
# Truth:    with one list, OpenSSL wants one of each issuer. Without, a good certificate fails with "unable to get certificate
#           CRL"; an empty list mends it.
# Versions: OpenSSL 3.0 of Debian 12, as nginx (ssl_crl) and mosquitto (crlfile) use it.
# Fleet:    in the rotation of an authority, all devices that have got their new certificates are shut out at once. Give servers an
#           empty list of the new authority together with the authority itself.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

command -v openssl >/dev/null || cannot "openssl is missing"
cd "$folder"
openssl version
for name in old new; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$name authority" \
        -keyout "$name.key" -out "$name.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=device" -keyout device.key -out device.csr 2>/dev/null
    openssl x509 -req -in device.csr -CA "$name.pem" -CAkey "$name.key" -CAcreateserial -days 1 -out "$name-device.pem" 2>/dev/null
    printf '[ca]\ndefault_ca=a\n[a]\ndatabase=%s.txt\ndefault_md=sha256\ndefault_crl_days=2\n' "$name" >"$name.conf"
    : >"$name.txt"
    openssl ca -config "$name.conf" -gencrl -keyfile "$name.key" -cert "$name.pem" -out "$name.crl" 2>/dev/null
done
cat old.pem new.pem >both.pem
cat old.crl new.crl >both.crl

# judge OPTION…: what OpenSSL says of the device of each authority.
judge() {
    local name
    for name in old new; do
        if openssl verify "$@" -CAfile both.pem "$name-device.pem" >"$name.log" 2>&1; then
            printf '%s: let in ' "$name"
        else
            printf '%s: %s ' "$name" "$(sed -n 's/^error [0-9]* at .*lookup: *//p' "$name.log")"
        fi
    done
}

expect "without a list      " "old: let in new: let in " "$(judge)"
expect "one list, empty     " "old: let in new: unable to get certificate CRL " "$(judge -crl_check -CRLfile old.crl)"
expect "a list of each, empty" "old: let in new: let in " "$(judge -crl_check -CRLfile both.crl)"
finish
