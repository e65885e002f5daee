#!/usr/bin/env bash
# The Python library for SMP refuses a device's answer that has a key more than it knows.
#
# Guess:    a client reads the keys of CBOR's maps that it knows and leaves the others: firmware gains fields from one release to the
#           next, and each device type adds its own.
# Truth:    responses are pydantic models that forbid extra keys, also inside the list of images. One more key, at either place, is a
#           ValidationError, and nothing of the answer is read: neither which image runs nor whether it is confirmed.
# Versions: smp 4.2.0, the library below smpclient 7.3.0.
# Fleet:    a gateway with a pinned client goes blind to every microcontroller whose firmware says more than before, in the middle of
#           a wave: it cannot see that the new image runs, does not confirm it, and each board goes back. Upgrade gateways first, or
#           read the maps with a decoder that ignores what it does not know.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here --no-binary crcmod smp==4.2.0 smpclient==7.3.0
python_finding here <<'END'
import hashlib

import cbor2
from finding import expect
from pydantic import ValidationError
from smp.image_management import ImageStatesReadResponse

IMAGE = {"slot": 0, "version": "1.2.0", "hash": hashlib.sha256(b"image").digest(), "bootable": True, "confirmed": True}


def read(answer):
    """What the library makes of the body of an answer, as it came over the line."""
    try:
        return f"confirmed={ImageStatesReadResponse(**cbor2.loads(cbor2.dumps(answer))).images[0].confirmed}"
    except ValidationError as error:
        return error.errors()[0]["type"]


expect("an answer with the keys it knows", "confirmed=True", read({"images": [IMAGE], "splitStatus": 0}))
expect("one more key beside the images", "extra_forbidden", read({"images": [IMAGE], "uptime": 12}))
expect("one more key in an image", "extra_forbidden", read({"images": [IMAGE | {"compressed": False}]}))
END
finish
