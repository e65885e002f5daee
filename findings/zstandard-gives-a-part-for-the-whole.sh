#!/usr/bin/env bash
# python-zstandard reads a file that was cut off as if it ended there, and of several frames only the first, each by other functions.
#
# Guess:    a compressed file that is not whole is an error, as gzip, lzma, lz4 and the zstd of Python 3.14 make it; the several frames that
#           the format allows, and `pzstd` writes, are one file.
# Truth:    `stream_reader`, `copy_stream`, `read_to_iter`, `decompressobj` and `zstandard.open` give what is there and end, without an
#           error, where a frame was cut; only `decompress` refuses. Of two frames `decompress`, `decompressobj` and `read_to_iter` give the
#           first; `stream_reader`, `copy_stream` and `open` give both. `lz4.frame.decompress` gives the first one of two as well.
# Versions: zstandard 0.25.0, lz4 4.4.5, backports.zstd 1.8.0 (the code of Python 3.14).
# Fleet:    a download that broke in the middle unpacks to the first half of a model's archive, or of a log of predictions, without a word; no
#           function is right for both. Check the digest of what was unpacked, or use `compression.zstd` (Python 3.14, backports.zstd).

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here zstandard==0.25.0 lz4==4.4.5 backports.zstd==1.8.0
python_finding here <<'EOF'
import gzip, io, lzma, random
import lz4.frame, zstandard
from backports import zstd
from finding import expect

SIZE = 4_000_000
content = random.Random(0).randbytes(SIZE)
decompressor = zstandard.ZstdDecompressor()


def copied(data):
    target = io.BytesIO()
    decompressor.copy_stream(io.BytesIO(data), target)
    return target.getvalue()


ways = {
    "decompress": decompressor.decompress,
    "stream_reader": lambda data: decompressor.stream_reader(io.BytesIO(data)).read(),
    "copy_stream": copied,
    "read_to_iter": lambda data: b"".join(decompressor.read_to_iter(io.BytesIO(data))),
    "decompressobj": lambda data: decompressor.decompressobj().decompress(data),
    "zstandard.open": lambda data: zstandard.open(io.BytesIO(data)).read(),
    "backports.zstd": zstd.decompress,
    "lz4.frame.decompress": lz4.frame.decompress,
    "gzip.decompress": gzip.decompress,
    "lzma.decompress": lzma.decompress,
}
packers = {"lz4": lz4.frame.compress, "gzip": lambda data: gzip.compress(data, 1), "lzma": lambda data: lzma.compress(data, preset=0)}


def outcome(name, data):
    try:
        found = ways[name](data)
    except Exception:
        return "refused"
    assert content.startswith(found)
    return "whole" if len(found) == SIZE else "half" if SIZE * 0.4 < len(found) < SIZE * 0.6 else f"{len(found)} bytes"


seen = {}
for name in ways:
    pack = packers.get(name.partition(".")[0], zstandard.compress)
    whole = pack(content)
    two = pack(content[: SIZE // 2]) + pack(content[SIZE // 2 :])
    seen[name] = [outcome(name, data) for data in (whole, whole[: len(whole) // 2], two)]
for name, expected in {
    "decompress": ["whole", "refused", "half"],
    "stream_reader": ["whole", "half", "whole"],
    "copy_stream": ["whole", "half", "whole"],
    "read_to_iter": ["whole", "half", "half"],
    "decompressobj": ["whole", "half", "half"],
    "zstandard.open": ["whole", "half", "whole"],
    "backports.zstd": ["whole", "refused", "whole"],
    "lz4.frame.decompress": ["whole", "refused", "half"],
    "gzip.decompress": ["whole", "refused", "whole"],
    "lzma.decompress": ["whole", "refused", "whole"],
}.items():
    expect(f"{name}: of a file, one that was cut in half, one of two frames", expected, seen[name])
EOF
finish
