#!/usr/bin/env bash
# pysimdjson: object[key] is a lazy view, and object.items() converts the whole tree below it.
#
# Guess:    a parsed document is a proxy: object["key"], object.items() and object.values() all give proxies of what lies below, and
#           an array stays packed until somebody asks for its numbers.
# Truth:    object["key"], object.get(), at_pointer() and walking an array give proxies; items() and values() give finished
#           Python lists and floats, of the whole tree below.
# Versions: pysimdjson 7.0.2.
# Fleet:    whoever walks a request's fields to find the large array has paid for a list of 150,000 floats of an image before it is
#           found, which is what the library was chosen to avoid. Take the keys, and index by each.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here pysimdjson==7.0.2
python_finding here <<'EOF'
import simdjson
from finding import expect

document = simdjson.Parser().parse(b'{"shape": [1, 3], "data": [0.5, 1.5, 2.5], "rows": [[1.5], [2.5]]}')


def kind(value):
    return type(value).__name__


expect("the document", "Object", kind(document))
expect('document["data"]', "Array", kind(document["data"]))
expect('document.get("data")', "Array", kind(document.get("data")))
expect('document.at_pointer("/rows/0")', "Array", kind(document.at_pointer("/rows/0")))
expect("a value of document.items()", "list", kind(dict(document.items())["data"]))
expect("one of document.values()", "list", kind(list(document.values())[1]))
expect("an element of an array that is walked", "Array", kind(next(iter(document["rows"]))))
expect("an element of an array that is indexed", "Array", kind(document["rows"][0]))
expect("document[key] for each of document.keys()", "Array", {kind(document[key]) for key in document.keys()}.pop())
EOF
finish
